-- Delete entries that hold nothing newer than what the database has.
--
-- KEYS     entries
-- ARGV[1]  msgpack: per key, the version of the newest record that is in the database
--
-- For entries that may not have been told of records of theirs. Returns msgpack {gone, ...}: false where something newer is there.
local versions, replies = cmsgpack.unpack(ARGV[1]), {}
for at = 1, #KEYS do
  local header = call('HGET', KEYS[at], '#')
  local gone = not header or tonumber(sub(header, 1, 16)) <= versions[at]
  if header and gone then call('DEL', KEYS[at]) end
  replies[at] = gone
end
return cmsgpack.pack(replies)
