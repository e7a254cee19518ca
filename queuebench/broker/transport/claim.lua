-- Settles what has been acknowledged or requeued, then pops up to `want` messages and records them as in
-- flight under this consumer's lease, all in one atomic step.
--
-- KEYS   leases, in flight and what of it has not begun (this lease's), what is too large, a quarantine per
--        queue, then the lists: all queues of the most urgent priority, all queues of the next one, ...
-- ARGV   lease, lease in ms, mode, want, first tag, queues, fair, group, largest, acks, requeues,
--        acks x tag, requeues x (tag, LPUSH|RPUSH, payload; '': as it is recorded)
-- reply  state (0 as usual, 1 waiting for this consumer to be empty, 2 on trial), left waiting,
--        then a (queue index, payload) for each message, whose tags count up from the first tag
local leases, flight, idle, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lease, lease_ms, mode = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local want, tag = tonumber(ARGV[4]), tonumber(ARGV[5])
local queues, fair, group = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])
local largest, acks, requeues = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local out = {0, 0}

-- A full server (maxmemory, noeviction) refuses a script whose first write could need memory.
redis.call('HDEL', flight, '')

local at = 12
local last = at + acks - 1
while at <= last do
  local stop = math.min(at + 999, last)
  redis.call('HDEL', flight, unpack(ARGV, at, stop))
  at = stop + 1
end
for _ = 1, requeues do
  local record = redis.call('HGET', flight, ARGV[at])
  if record then
    redis.call('HDEL', flight, ARGV[at])
    local home, recorded = home_of(record)
    redis.call(ARGV[at + 1], home, ARGV[at + 2] ~= '' and ARGV[at + 2] or recorded)
  end
  at = at + 3
end

if mode == 'close' then
  -- What is left was popped by a call whose reply never came, or outlived its connection by a whole lease:
  -- a lease that ends at 0 blames nobody.
  if redis.call('EXISTS', flight) == 0 then
    redis.call('ZREM', leases, lease)
    redis.call('DEL', idle)
  else
    redis.call('ZADD', leases, 0, lease)
  end
  return out
end

if want == 0 then
  return out
end

-- A reply has at most 256 KiB, or one message that is larger; and no message that is above the server's
-- client-output-buffer-limit, for a reply with it would be cut off, and made again for ever.
local room = 262144
if largest > 0 then
  room = math.min(room, math.floor(largest / 2))
end
local full = false

local function take(key, queue, count)
  local taken, at_once, bytes = 0, 1, 0
  while taken < count and not full do
    local asked = math.min(count - taken, at_once)
    local got = redis.pcall('RPOP', key, asked)
    if not got or got.err then
      break
    end
    local fields, kept = {}, 0
    for _, payload in ipairs(got) do
      local given = payload
      if largest > 0 and #payload > largest then
        given = stub_of(payload, largest, aside)
      end
      if #out > 2 and #given > room then
        full = true
        break
      end
      if given ~= payload then
        redis.call('LPUSH', aside, payload)
      end
      room, bytes = room - #given, bytes + #given
      fields[#fields + 1] = tag
      fields[#fields + 1] = #key .. ':' .. key .. given
      out[#out + 1] = queue
      out[#out + 1] = given
      tag, kept = tag + 1, kept + 1
    end
    for i = #got, kept + 1, -1 do
      redis.call('RPUSH', key, got[i])
    end
    if mode ~= 'unrecorded' and kept > 0 then
      redis.call('HSET', flight, unpack(fields))
    end
    taken, full = taken + kept, full or room <= 0
    if #got < asked then
      break
    end
    -- As many as fit by what came so far: what does not is copied to and fro.
    at_once = math.min(at_once * 4, 50, 1 + math.floor(math.max(room, 0) * taken / math.max(bytes, 1)))
  end
  return taken
end

local suspects = 0
if mode ~= 'unrecorded' then
  for queue = 1, queues do
    suspects = suspects + redis.call('LLEN', KEYS[4 + queue])
  end
end

-- While a trial goes on, a death is blamed on what is on trial only.
if mode ~= 'unrecorded' and suspects == 0 then
  redis.call('SREM', idle, 'on trial')
end

local left = want
if suspects > 0 then
  if mode ~= 'trial' and redis.call('HLEN', flight) > 0 then
    out[1] = 1
  else
    out[1] = 2
    redis.call('SADD', idle, 'on trial')
    local level
    for queue = 1, queues do
      local key = KEYS[4 + queue]
      while left > 0 do
        local suspect = redis.call('LINDEX', key, -1)
        if not suspect or (level and deaths_of(suspect) ~= level) then
          break
        end
        if not level then
          level = deaths_of(suspect)
          left = math.min(left, level == 2 and group or 1)
        end
        if take(key, queue, 1) == 0 then
          break
        end
        left = left - 1
      end
    end
  end
else
  for first = 5 + queues, #KEYS, queues do
    if fair then
      for queue = 1, queues do
        left = left - take(KEYS[first + queue - 1], queue, math.ceil(left / (queues - queue + 1)))
      end
    end
    for queue = 1, queues do
      left = left - take(KEYS[first + queue - 1], queue, left)
    end
  end
end

if #out > 2 and mode ~= 'unrecorded' then
  redis.call('ZADD', leases, now_ms() + lease_ms, lease)
end

-- Reading the lists last makes the server tell this connection (CLIENT TRACKING) when one of them changes.
for i = 5, #KEYS do
  out[2] = out[2] + redis.call('LLEN', KEYS[i])
end
return out
