-- Renews this consumer's lease and, when asked to, gives back what one consumer held whose lease ran out.
--
-- A message that was in flight when its worker died was perhaps the cause. It is delivered as usual once
-- more; with a second death it goes into quarantine, from where it is tried without other company, first in
-- a group, then alone, and with `max_deaths` deaths it is condemned. While a trial goes on, blame falls on
-- the messages on trial only.
--
-- KEYS   leases, condemned
-- ARGV   lease, lease in ms, reap, max deaths, separator, prefix of in flight keys
-- reply  how many messages went back, or -1: no lease had run out
local leases, condemned = KEYS[1], KEYS[2]
local lease, lease_ms, reap = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local max_deaths, separator, prefix = tonumber(ARGV[4]), ARGV[5], ARGV[6]

-- A full server (maxmemory, noeviction) refuses a script whose first write could need memory.
redis.call('ZREM', leases, '')
local now = now_ms()
redis.call('ZADD', leases, now + lease_ms, lease)
if not reap then
  return -1
end

local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1)[1]
if not dead then
  return -1
end
local flight = prefix .. dead
local held = redis.call('HGETALL', flight)
local blameless = redis.call('ZSCORE', leases, dead) == '0'
local messages, on_trial = {}, false
for i = 1, #held, 2 do
  local home, payload = home_of(held[i + 1])
  local deaths = deaths_of(payload)
  on_trial = on_trial or deaths >= 2
  messages[#messages + 1] = {tag = tonumber(held[i]), home = home, payload = payload, deaths = deaths}
end
table.sort(messages, function(a, b) return a.tag > b.tag end)
for _, message in ipairs(messages) do
  local deaths = message.deaths
  if not blameless and (deaths >= 2 or not on_trial) then
    deaths = deaths + 1
  end
  local payload = with_deaths(message.payload, deaths)
  if deaths >= max_deaths then
    redis.call('RPUSH', condemned, payload)
  elseif deaths >= 2 then
    local cut = string.find(message.home, separator, 1, true)
    local queue = cut and string.sub(message.home, 1, cut - 1) or message.home
    redis.call(deaths == 2 and 'RPUSH' or 'LPUSH', queue .. separator .. 'quarantine', payload)
  else
    redis.call('RPUSH', message.home, payload)
  end
end
redis.call('DEL', flight)
redis.call('ZREM', leases, dead)
return #messages
