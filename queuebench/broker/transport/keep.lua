-- Renews this consumer's lease and, when asked to, gives back what one consumer held whose lease ran out.
--
-- A message that was in flight when its worker died was perhaps the cause. It is delivered as usual once
-- more; with a second death it goes into quarantine, from where it is tried without other company, first in
-- a group, then alone, and with `max_deaths` deaths it is condemned. While a trial goes on, blame falls on
-- the messages on trial only.
--
-- What the consumer held and had not begun is blamed for nothing.
--
-- One call gives back about `at once` messages or 1 MiB of one consumer, or one message that is larger, and
-- reads no more than ten beyond that, whatever the consumer held.
--
-- KEYS   leases, condemned
-- ARGV   lease, lease in ms, reap, max deaths, separator, prefix of in flight keys, prefix of idle keys, at once,
--        the dead consumer and the cursor of the call before
-- reply  how many messages went back, whose ('': no lease had run out), the cursor
local leases, condemned = KEYS[1], KEYS[2]
local lease, lease_ms, reap = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local max_deaths, separator, prefix = tonumber(ARGV[4]), ARGV[5], ARGV[6]

-- A full server (maxmemory, noeviction) refuses a script whose first write could need memory.
redis.call('ZREM', leases, '')
local now = now_ms()
redis.call('ZADD', leases, now + lease_ms, lease)
if not reap then
  return {0, '', '0'}
end

local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1)[1]
if not dead then
  return {0, '', '0'}
end
local flight, idle = prefix .. dead, ARGV[7] .. dead
local cursor = ARGV[9] == dead and ARGV[10] or '0'
local messages, seen, bytes = {}, {}, 0
repeat
  local scanned = redis.call('HSCAN', flight, cursor, 'COUNT', 10)
  cursor = scanned[1]
  local held = scanned[2]
  for i = 1, #held, 2 do
    if not seen[held[i]] then
      seen[held[i]] = true
      local home, payload = home_of(held[i + 1])
      bytes = bytes + #payload
      messages[#messages + 1] = {tag = tonumber(held[i]), home = home, payload = payload, deaths = deaths_of(payload)}
    end
  end
until cursor == '0' or #messages >= tonumber(ARGV[8]) or bytes >= 1048576
local blameless = redis.call('ZSCORE', leases, dead) == '0'
local on_trial = redis.call('SISMEMBER', idle, 'on trial') == 1
table.sort(messages, function(a, b) return a.tag > b.tag end)
for _, message in ipairs(messages) do
  local deaths = message.deaths
  local begun = redis.call('SISMEMBER', idle, message.tag) == 0
  if not blameless and begun and (deaths >= 2 or not on_trial) then
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
  redis.call('HDEL', flight, message.tag)
end
if redis.call('EXISTS', flight) == 0 then
  redis.call('ZREM', leases, dead)
  redis.call('UNLINK', idle)
end
return {#messages, dead, cursor}
