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

