-- Put entries in doubt: it is not known which of their records they were told to be in the database.
--
-- KEYS     entries
-- ARGV[1]  msgpack: per key, the version of the newest record that is in the database
-- ARGV[2]  how long an entry stays in doubt at most, in milliseconds
--
-- One that holds nothing newer is deleted: reads show the row. Else what is pending goes on being served, and counting begins
-- anew: the entry gets a new generation, with one pending write that stands for all that were pending (release.lua takes it off
-- again, once the newest of them is flushed). So a settlement of before that is carried out late, or never, does no harm. The sums
-- of deltas begin anew as well: they may be of what is in the row already. The bookkeeping is changed as a text.
--
-- It expires because its newest write may have failed, or have died with its writer: then nothing releases it.
-- Returns 1.
local versions, ttl_ms = cmsgpack.unpack(ARGV[1]), ARGV[2]
local GENERATIONS = 64  -- at most four that were before: older writes have reached the log by now, or failed

-- After an undo the newest version may be of a write that is no more: then what the entry holds is as new as its marks. Deltas
-- have none, and those of before a doubt are not listed.
local function holds_nothing_newer(header, version)
  if tonumber(sub(header, 1, 16)) <= version then return true end
  local entry = read(header)
  if not entry.undone or entry.doubted or next(entry.sums) then return false end
  for _, mark in pairs(entry.marks) do
    if tonumber(mark) > version then return false end
  end
  return not entry.delete or tonumber(entry.delete) <= version
end

local function doubt(key, header, version)
  local newest, pending, stop = tonumber(sub(header, 1, 16)), pending_of(header)
  if pending == 0 or holds_nothing_newer(header, version) then return call('DEL', key) end
  local generation, parts = sub(header, 18, 33), sub(header, stop)
  local before = string.match(parts, ' h(%d+)') or ''
  if before == '' or tonumber(generation) <= newest then
    parts = string.gsub(parts, ' [+hl]%S+', '') .. ' h' .. sub(before .. generation, -GENERATIONS)
    generation = text(newest + 1)
  end
  call('HSET', key, '#', sub(header, 1, 17) .. generation .. string.upper(sub(header, CLEAN, CLEAN)) .. '1' .. parts)
  call('PEXPIRE', key, ttl_ms)
end

for at = 1, #KEYS do
  local header = call('HGET', KEYS[at], '#')
  if header then doubt(KEYS[at], header, versions[at]) end
end
return 1
