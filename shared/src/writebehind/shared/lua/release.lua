-- Put in front of the scripts that tell entries what became of their records: the end of a doubt (doubt.lua).

-- Whether a record of this version was the newest of those that were pending when the doubt began, or is newer.
local function is_released_by(entry, version)
  return entry.doubted and tonumber(entry.generation) <= version + 1
end

-- All that was pending then is flushed, or was refused: the entry keeps what was written since, for its row to be put under it;
-- what becomes of that it is told. Its sums stay until it is healed: they may have missed something, but hide nothing. False when
-- the entry is gone.
local function release(key, entry, fields)
  local since = entry.generation  -- versions and generations have 16 digits: they compare as texts
  entry.pending, entry.doubted, entry.tainted, entry.lease = entry.pending - 1, false, true, false
  if entry.pending <= 0 then
    call('DEL', key)
    return false
  end
  if entry.delete and entry.delete < since then entry.delete = false end
  for index = 1, #fields do
    local name, id = fields[index][1], fields[index][6]
    local mark = entry.marks[id]
    if mark and mark < since then
      call('HDEL', key, name)
      entry.marks[id] = nil
      if not entry.delete then entry.holds = 'p' end
    end
  end
  if entry.holds == 'n' and not entry.delete then entry.holds = 'p' end
  call('HSET', key, '#', written(entry, fields))
  call('PERSIST', key)
  return true
end
