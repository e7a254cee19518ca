-- KEYS   leases, condemned, the queue's lists
-- ARGV   prefix of in flight keys
-- reply  messages waiting, messages in flight
local waiting, flying = 0, redis.call('LLEN', KEYS[2])
for i = 3, #KEYS do
  waiting = waiting + redis.call('LLEN', KEYS[i])
end
for _, lease in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  flying = flying + redis.call('HLEN', ARGV[1] .. lease)
end
return {waiting, flying}
