-- Changes grants of users of one shard in their ledgers (budgets/ledger.py describes the bytes).
-- KEYS: the users' ledgers, one per change. ARGV: 'refund' or 'open', then one 8-byte little-endian key per change:
-- the grant id to take back; the grant id or entity that was opened. A ledger's TTL stays as it is.
-- Returns a string of one digit per change: 1 where a unit came back or a grant was opened.
local RECORD, GRANT_ID, ENTITY, FLAGS = 36, 16, 24, 9
local OPENED, UPDATED = 1, 4

local function seek(ledger, value, offset, from)
  local at = string.find(ledger, value, from, true)
  while at do
    if (at - 1 - offset) % RECORD == 0 then
      return at - offset
    end
    at = string.find(ledger, value, at + 1, true)
  end
end

local function refund(ledger, grant_id)
  local start = seek(ledger, grant_id, GRANT_ID, RECORD + 1)
  if start and bit.band(string.byte(ledger, start + FLAGS), UPDATED) == 0 then
    return string.sub(ledger, 1, start - 1) .. string.sub(ledger, start + RECORD)
  end
end

local function open(ledger, key)
  local opened
  for _, offset in ipairs({ GRANT_ID, ENTITY }) do
    local start = seek(ledger, key, offset, RECORD + 1)
    while start do
      local flags = string.char(bit.bor(string.byte(ledger, start + FLAGS), OPENED))
      ledger = string.sub(ledger, 1, start + FLAGS - 1) .. flags .. string.sub(ledger, start + FLAGS + 1)
      opened = ledger
      start = seek(ledger, key, offset, start + RECORD)
    end
  end
  return opened
end

local change = ARGV[1] == 'refund' and refund or open
local done = {}
for i, name in ipairs(KEYS) do
  local ledger = redis.call('GET', name)
  local changed = ledger and change(ledger, ARGV[i + 1])
  if changed then
    redis.call('SET', name, changed, 'KEEPTTL')
  end
  done[i] = changed and '1' or '0'
end
return table.concat(done)
