-- Moves one message to the dead letters, unless somebody else already did.
--
-- KEYS   where it is, the dead letters
-- ARGV   its tag ('' if the place is the list of the condemned), its payload there, its record
local found
if ARGV[1] == '' then
  found = redis.call('LREM', KEYS[1], 1, ARGV[2])
else
  found = redis.call('HDEL', KEYS[1], ARGV[1])
end
if found == 1 then
  redis.call('RPUSH', KEYS[2], ARGV[3])
end
return found
