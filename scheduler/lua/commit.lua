-- Commits one batch: at most 500 users of one shard. Times are epoch seconds and come from the caller, slots are UTC
-- quarter-hours, TTLs are seconds and only collect garbage. Everything is read and decided before anything is written,
-- because a script that fails half-way is not rolled back.
-- KEYS: due index, lease, outbox, decision log, this batch's reply. All of the batch's keys share one hash tag.
-- ARGV: the batch (scheduler/redis_commit.py packs it), its decision log entry ('' for none).
-- Returns msgpack {status per user, (disposition, reason) per row, evicted held rows}, or '' where the fence is stale.
local due_key, lease_key, outbox_key, log_key, reply_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local batch = cmsgpack.unpack(ARGV[1])
local fence, now, users, windows, slots, next_slots, row_counts, entries, proposals, messages, holds, releases, held_users =
  batch[1], batch[2], batch[3], batch[4], batch[5], batch[6], batch[7], batch[8], batch[9], batch[10], batch[11], batch[12], batch[13]
local ledger_prefix, held_prefix = batch[14], batch[15]
local ALREADY_SENT, OVER_BUDGET, UPDATE, CLAIMED, EVICTED, LEFT_OUT, HOLD = unpack(batch[16])
local ROLLING_S, RETENTION_S, MAX_ENTRIES, MAX_HELD, KEEP_S, REPLY_S = unpack(batch[17])
local digests = batch[18] -- per lead: its rule and, per rider, {row, item, grant in hex}

local call, sub, byte, char, find, concat = redis.call, string.sub, string.byte, string.char, string.find, table.concat
local RECORD, GRANT_ID, ENTITY = 36, 16, 24 -- size of a ledger's records and offsets of fields (budgets/ledger.py: ENTRY)
local MAGIC, NO_WINDOW = 'LDT1', '\255\255\255\255'
local EMPTY = MAGIC .. string.rep(NO_WINDOW, 8)
local OPENED, CRITICAL, UPDATED, DIGESTED = 1, 2, 4, 8
local SINCE = now - ROLLING_S
local STATUS_OK, STATUS_CLAIMED, MSGPACK_TRUE, MSGPACK_MAP_20 = '\0', '\2', '\195', '\222\0\20'

-- A reply that got lost: answer it again. The write makes a WAITAOF behind this call wait for the first one's too.
local answered = call('GET', reply_key)
if answered then
  call('EXPIRE', reply_key, REPLY_S)
  return answered
end
if fence > 0 and tonumber(call('HGET', lease_key, 'token') or 0) ~= fence then
  return ''
end

-- Read -------------------------------------------------------------------------------------------------------------

local function read_all(prefix, names)
  local keys = {}
  for i = 1, #names do
    keys[i] = prefix .. names[i]
  end
  return keys, call('MGET', unpack(keys))
end

local ledger_keys, ledgers = read_all(ledger_prefix, users)
local in_slot = #slots > 0 and call('ZMSCORE', due_key, unpack(users)) or {}
local held_keys, held = {}, {}
if #held_users > 0 then
  local names = {}
  for i, user in ipairs(held_users) do
    names[i] = users[user]
  end
  local keys, packed = read_all(held_prefix, names)
  for i, user in ipairs(held_users) do
    held_keys[user], held[user] = keys[i], {}
    for _, row in ipairs(packed[i] and cmsgpack.unpack(packed[i]) or {}) do
      if row[4] > now then
        table.insert(held[user], row)
      end
    end
  end
end
call('XLEN', outbox_key) -- these raise now, not half-way, where a key is of another type
call('XLEN', log_key)
call('ZCARD', due_key)

-- Decide -----------------------------------------------------------------------------------------------------------

local status, final, evicted, outgoing, sets, moves, enrolled = {}, {}, {}, {}, {}, {}, {}
local lead_of = {} -- of each rider
for lead, digest in pairs(digests) do
  for _, rider in ipairs(digest[2]) do
    lead_of[rider[1]] = lead
  end
end
local several, made = false, {} -- whether a user has several rows, and the grants made for rows above

-- Where in a ledger's records a field has a value: the start of the record, or nil. Its bytes may also occur elsewhere.
local function seek(body, value, offset, from)
  local at = find(body, value, from, true)
  while at do
    if (at - 1 - offset) % RECORD == 0 then
      return at - offset
    end
    at = find(body, value, at + 1, true)
  end
end

local function at_of(body, start)
  return (struct.unpack('<d', body, start))
end

-- Units spent on a channel. Records are in order of time, so the ones that count are at the end.
local function spent(body, channel)
  local units = 0
  for start = #body - RECORD + 1, 1, -RECORD do
    local at, its_channel, flags = struct.unpack('<dBB', body, start)
    if at < SINCE then
      break
    end
    if its_channel == channel and bit.band(flags, CRITICAL) == 0 then
      units = units + 1
    end
  end
  return units
end

-- Where an entry of now belongs: the records, and what is still to be put behind them.
local function insert_by_time(body, entry)
  local start = #body - RECORD + 1
  while start > 0 and at_of(body, start) > now do
    start = start - RECORD
  end
  if start == #body - RECORD + 1 then
    return body, entry
  end
  return sub(body, 1, start + RECORD - 1) .. entry .. sub(body, start + RECORD), ''
end

-- Forgets records past retention, and the oldest beyond MAX_ENTRIES that no longer count. `tail` is still to follow.
local function prune(body, tail)
  local first, left = 1, (#body + #tail) / RECORD
  while first < #body do
    local at = at_of(body, first)
    if at >= now - RETENTION_S and (left <= MAX_ENTRIES or at >= SINCE) then
      break
    end
    first, left = first + RECORD, left - 1
  end
  return first == 1 and body or sub(body, first)
end

local function entry_of(row)
  return sub(entries, row * RECORD - RECORD + 1, row * RECORD)
end

local function proposes_hold(row)
  return byte(proposals, row * 3 - 1) == HOLD
end

local function as_proposed(row)
  return sub(proposals, row * 3 - 1, row * 3)
end

-- The outcome of a row that was granted before: by the same decision (a repeat), by another, or a row above; or nil.
local function own_grant(row, entry, body)
  local grant_id = sub(entry, 17, 24)
  local start = seek(body, grant_id, GRANT_ID, 1)
  if not start then
    return nil
  end
  if proposes_hold(row) or made[grant_id] or sub(body, start + 32, start + 35) ~= sub(entry, 33, 36) then
    return ALREADY_SENT
  end
  return bit.band(byte(body, start + 9), UPDATED) ~= 0 and UPDATE or as_proposed(row)
end

-- Whether the entity was granted in this or a newer version (a critical row asks about its own channel only), and the
-- start of the unopened older record of its channel that this row may replace.
local function relatives(body, entry, channel, critical)
  local entity, replaceable = sub(entry, 25, 32), nil
  local start = seek(body, entity, ENTITY, 1)
  if not start then
    return false, nil
  end
  local version = struct.unpack('<I4', entry, 13)
  while start do
    local _, its_channel, flags, _, its_version = struct.unpack('<dBBI2I4', body, start)
    if its_version >= version and (its_channel == channel or not critical) then
      return true, nil
    end
    if its_channel == channel and bit.band(flags, OPENED + DIGESTED) == 0 then
      replaceable = start
    end
    start = seek(body, entity, ENTITY, start + RECORD)
  end
  return false, replaceable
end

local function hold(user, row)
  local wanted, kept = holds[row], {}
  for _, other in ipairs(held[user]) do
    if other[1] ~= wanted[1] or other[2] ~= wanted[2] then
      kept[#kept + 1] = other
    end
  end
  kept[#kept + 1] = wanted
  held[user] = kept
  if #kept <= MAX_HELD then
    return as_proposed(row)
  end
  local least = #kept
  for i = #kept, 1, -1 do
    if kept[i][3] < kept[least][3] then
      least = i
    end
  end
  local loser = table.remove(kept, least)
  evicted[#evicted + 1] = { user, loser[1], loser[2], loser[3] }
  return loser == wanted and EVICTED or as_proposed(row)
end

-- What was to be sent, and lacked a unit after all, stays held.
local function release(user)
  for _, gone in ipairs(releases[user] or {}) do
    local outcome = final[gone[3]]
    local refused = outcome == OVER_BUDGET or outcome == LEFT_OUT
    for i, row in ipairs(held[user]) do
      if row[1] == gone[1] and row[2] == gone[2] and not refused then
        table.remove(held[user], i)
        break
      end
    end
  end
end

local function enqueue(entry, message)
  outgoing[#outgoing + 1] = message
  if several then
    made[sub(entry, 17, 24)] = true
  end
end

local function replace(body, start, entry)
  local flags = char(bit.bor(byte(body, start + 9), UPDATED))
  return sub(body, 1, start - 1) .. sub(body, start, start + 8) .. flags .. sub(entry, 11) .. sub(body, start + RECORD)
end

local function flagged(entry, flags)
  return sub(entry, 1, 9) .. char(bit.bor(byte(entry, 10), flags)) .. sub(entry, 11)
end

-- Grants a lead and those of its riders that were not sent before, and enqueues one message of them all; returns the
-- records afterwards, and an entry that is still to be put behind them.
local function tell_together(row, entry, body)
  local digest, told, tail = digests[row], {}, nil
  body, tail = insert_by_time(body, flagged(entry, DIGESTED))
  for _, rider in ipairs(digest[2]) do
    local its = entry_of(rider[1])
    body, tail = body .. tail, ''
    if relatives(body, its, byte(its, 9), false) then
      final[rider[1]] = ALREADY_SENT
    else
      body, tail = insert_by_time(body, flagged(its, CRITICAL + DIGESTED))
      final[rider[1]], made[sub(its, 17, 24)] = as_proposed(rider[1]), true
      told[#told + 1] = { rider[2], rider[3] }
    end
  end
  local message, pack = messages[row], cmsgpack.pack
  if #told > 0 then -- a message's first three bytes say how many fields there are
    message = MSGPACK_MAP_20 .. sub(message, 4) .. pack('digest_by') .. pack(digest[1]) .. pack('digest') .. pack(told)
  end
  enqueue(entry, message)
  return body, tail
end

-- The outcome of one row, its user's records afterwards, and an entry that is still to be put behind them ('' for none).
local function settle_row(user, row, body)
  local entry = entry_of(row)
  local channel, flags = byte(entry, 9, 10)
  local critical = bit.band(flags, CRITICAL) ~= 0
  local newer, replaceable = false, nil
  if find(body, sub(entry, 25, 32), 1, true) then -- a grant made before is of the same entity: mostly there is none
    local known = own_grant(row, entry, body)
    if known then
      return known, body, ''
    end
    newer, replaceable = relatives(body, entry, channel, critical)
  end
  if newer then
    return ALREADY_SENT, body, ''
  end
  if proposes_hold(row) then
    return hold(user, row), body, ''
  end
  if replaceable then
    enqueue(entry, sub(messages[row], 1, -2) .. MSGPACK_TRUE) -- a message's last byte says whether it is an update
    return UPDATE, replace(body, replaceable, entry), ''
  end
  local budget = byte(proposals, row * 3 - 2)
  if not critical and #body >= budget * RECORD and spent(body, channel) >= budget then -- fewer records than units: none is over
    return OVER_BUDGET, body, ''
  end
  if digests[row] then
    return as_proposed(row), tell_together(row, entry, body)
  end
  enqueue(entry, messages[row])
  return as_proposed(row), insert_by_time(body, entry)
end

-- The outcome of a row that another was to tell of, where that one was not granted now.
local function settle_rider(row, body)
  return own_grant(row, entry_of(row), body) or (final[lead_of[row]] == OVER_BUDGET and OVER_BUDGET or LEFT_OUT)
end

local function is_claimed(ledger, window)
  local at = find(ledger, window, 5, true)
  while at and at <= RECORD - 3 do
    if at % 4 == 1 then
      return true
    end
    at = find(ledger, window, at + 1, true)
  end
  return false
end

-- The records of a user, and the ledger that begins with the header of claimed windows.
local function opened(user)
  local ledger = ledgers[user]
  if not ledger then
    return '', EMPTY
  end
  if #ledger % RECORD ~= 0 or sub(ledger, 1, 4) ~= MAGIC then
    error('the value of ' .. ledger_keys[user] .. ' is not a ledger')
  end
  return sub(ledger, RECORD + 1), ledger
end

local function settle_user(user, first, last, window, body, ledger)
  local before, tail, header = body, '', nil
  several = last > first
  for row = first, last do
    if tail ~= '' then
      body = body .. tail
    end
    if lead_of[row] then
      final[row], tail = final[row] or settle_rider(row, body), ''
    else
      final[row], body, tail = settle_row(user, row, body)
    end
  end
  release(user)
  if window ~= NO_WINDOW then
    header = MAGIC .. window .. sub(ledger, 5, RECORD - 4)
  elseif tail ~= '' or body ~= before then
    header = sub(ledger, 1, RECORD)
  end
  if header then
    sets[#sets + 1] = ledger_keys[user]
    sets[#sets + 1] = header .. prune(body, tail) .. tail
  end
end

-- Settles what most users have: one row to send, of an entity that was never granted, and fewer records than units, all of them
-- young enough to stay. settle_user comes to the same, in twice the time. Returns whether it was so.
local function settled_at_once(user, row, window)
  local budget, disposition = byte(proposals, row * 3 - 2, row * 3 - 1)
  if disposition == HOLD or held[user] or lead_of[row] or digests[row] then
    return false
  end
  local ledger, start = ledgers[user] or EMPTY, row * RECORD - RECORD
  local size = #ledger
  if size > RECORD then
    if
      size % RECORD ~= 0
      or size > budget * RECORD
      or find(ledger, sub(entries, start + 25, start + 32), RECORD + 1, true)
      or at_of(ledger, RECORD + 1) < now - RETENTION_S
      or at_of(ledger, size - RECORD + 1) > now
    then
      return false
    end
  elseif size < RECORD or budget == 0 then
    return false
  end
  if sub(ledger, 1, 4) ~= MAGIC then
    return false
  end
  local entry = sub(entries, start + 1, start + RECORD)
  if window ~= NO_WINDOW then
    if find(ledger, window, 5, true) then
      return false
    end
    ledger = MAGIC .. window .. sub(ledger, 5, RECORD - 4) .. sub(ledger, RECORD + 1) .. entry
  else
    ledger = ledger .. entry
  end
  final[row], outgoing[#outgoing + 1] = as_proposed(row), messages[row]
  sets[#sets + 1] = ledger_keys[user]
  sets[#sets + 1] = ledger
  status[user] = STATUS_OK
  return true
end

local last = 0
for user = 1, #users do
  local first = last + 1
  last = last + row_counts[user]
  local window, slot, next_slot = sub(windows, user * 4 - 3, user * 4), slots[user] or -1, next_slots[user] or -1
  local here = slot >= 0 and tonumber(in_slot[user] or -1) == slot
  if (slot >= 0 and not here) or first ~= last or not settled_at_once(user, first, window) then
    local body, ledger = opened(user)
    if (slot >= 0 and not here) or (window ~= NO_WINDOW and is_claimed(ledger, window)) then
      status[user] = STATUS_CLAIMED
      for row = first, last do
        final[row] = own_grant(row, entry_of(row), body) or CLAIMED
      end
    else
      status[user] = STATUS_OK
      settle_user(user, first, last, window, body, ledger)
    end
  end
  if next_slot >= 0 and (here or slot < 0) then
    local into = here and moves or enrolled
    into[#into + 1] = next_slot
    into[#into + 1] = users[user]
  end
end

-- Write ------------------------------------------------------------------------------------------------------------

if #sets > 0 then
  local count = #sets / 2
  sets[#sets + 1], sets[#sets + 2] = 'EX', KEEP_S
  local wrote = redis.pcall('MSETEX', count, unpack(sets))
  if type(wrote) == 'table' then -- the server does not know it (before Valkey 9 and Redis 8.4)
    for i = 1, count * 2, 2 do
      call('SET', sets[i], sets[i + 1], 'EX', KEEP_S)
    end
  end
end
for i = 1, #outgoing do
  call('XADD', outbox_key, '*', 'm', outgoing[i])
end
for _, user in ipairs(held_users) do
  if #held[user] > 0 then
    call('SET', held_keys[user], cmsgpack.pack(held[user]), 'EX', KEEP_S)
  else
    call('DEL', held_keys[user])
  end
end
if #moves > 0 then
  call('ZADD', due_key, unpack(moves))
end
if #enrolled > 0 then
  call('ZADD', due_key, 'NX', unpack(enrolled))
end
final = concat(final)
if #ARGV[2] > 0 then
  call('XADD', log_key, '*', 'b', ARGV[2], 'f', final)
end
local reply = cmsgpack.pack({ concat(status), final, evicted })
call('SET', reply_key, reply, 'EX', REPLY_S)
return reply
