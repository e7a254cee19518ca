-- Forgets the deaths of messages that outlived their trial and are still running.
--
-- KEYS   in flight
-- ARGV   tags
for _, tag in ipairs(ARGV) do
  local record = redis.call('HGET', KEYS[1], tag)
  if record then
    local home, payload = home_of(record)
    redis.call('HSET', KEYS[1], tag, #home .. ':' .. home .. with_deaths(payload, 0))
  end
end
return #ARGV
