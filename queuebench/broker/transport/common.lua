-- A message in flight is recorded as "<length of its list's name>:<name><payload>". How many workers died
-- with it is written into the payload itself, as a first key that kombu ignores, so that it needs no ledger.
local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function home_of(record)
  local length, start = string.match(record, '^(%d+):()')
  return string.sub(record, start, start + length - 1), string.sub(record, start + length)
end

local function deaths_of(payload)
  return tonumber(string.match(payload, '^%s*{%s*"deaths":%s*(%d+)')) or 0
end

local function with_deaths(payload, deaths)
  local rest = string.match(payload, '^%s*{%s*"deaths":%s*%d+,%s*(.*)$') or string.match(payload, '^%s*{%s*(".*)$')
  if not rest then
    return payload
  end
  return '{"deaths": ' .. deaths .. ', ' .. rest
end

-- What is delivered in the place of a message that is too large to be fetched: all of it but its body, so
-- that its dead letter tells whose it is; or why alone, where the body was not what made it large.
local function stub_of(payload, largest, aside)
  local why = '{"set_aside": ' .. cjson.encode(string.format(
    'it has %d bytes, more than the %d that can be fetched: it is kept whole in %s of its Redis',
    #payload, largest, aside))
  local bare = string.gsub(payload, '("body":%s*")[^"]*"', '%1"', 1)
  local rest = #bare <= 8192 and #bare <= largest - #why - 2 and string.match(bare, '^%s*{%s*(".*)$')
  return rest and why .. ', ' .. rest or why .. '}'
end
