-- Another entity of the same table made or deleted the row: what entries say of its existence is of no use any more, and
-- neither is what a reader has loaded before.
--
-- KEYS     entries
--
-- One without pending writes is deleted. Else it stays for them, tainted, so that it is read anew once they are flushed.
-- The bookkeeping is changed as a text: whoever runs this need not know the entity's fields. Returns 1.
local function forget(key, header)
  local pending, stop = pending_of(header)
  if pending == 0 then return call('DEL', key) end
  local holds = string.upper(sub(header, CLEAN, CLEAN))
  if holds == 'N' and not find(header, ' d', stop, true) then holds = 'P' end
  local lease = find(header, ' l', stop, true) or #header + 1
  call('HSET', key, '#', sub(header, 1, CLEAN - 1) .. holds .. sub(header, CLEAN + 1, lease - 1))
end

for at = 1, #KEYS do
  local header = call('HGET', KEYS[at], '#')
  if header then forget(KEYS[at], header) end
end
return 1
