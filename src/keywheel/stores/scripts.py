"""What Redis runs: the rules of `book.Book` by the server's clock. A test holds the two against each other."""

# KEYS: birth, minute, then day and room of each date.
# ARGV: birth, writer, lease, slots, minute limit, then mine, others, limit of each date.
TAKE = """
local call, t = redis.call, redis.call('TIME')
local now, cap = t[1] + t[2] / 1e6, tonumber(ARGV[5])
if call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 61)
local sent, spent, full, days = call('ZCARD', KEYS[2]), false, false, {}
for d = 3, #KEYS, 2 do
  local a, used, kept = 6 + (d - 3) / 2 * 3, 0, 0
  for i, who in ipairs({ARGV[2], 'others'}) do
    local more = ARGV[a + i - 1] - (call('HGET', KEYS[d], who) or 0)
    if more > 0 then call('HINCRBY', KEYS[d], who, more) end
  end
  for _, n in ipairs(call('HVALS', KEYS[d])) do used = used + n end
  for _, n in ipairs(call('HVALS', KEYS[d + 1])) do kept = kept + n end
  spent = spent or used + kept >= tonumber(ARGV[a + 2])
  full = full or sent + call('HLEN', KEYS[d + 1]) * math.floor(cap / ARGV[4]) >= cap
  days[#days + 1] = used
end
if call('ZSCORE', KEYS[2], ARGV[3]) then return {'again', sent, unpack(days)} end
if full or spent then return {full and 'minute' or 'day', sent, unpack(days)} end
call('ZADD', KEYS[2], now, ARGV[3]); call('EXPIRE', KEYS[2], 120)
for i = 1, #days do
  days[i] = days[i] + 1
  call('HINCRBY', KEYS[1 + 2 * i], ARGV[2], 1); call('EXPIRE', KEYS[1 + 2 * i], 259200)
end
return {'taken', sent + 1, unpack(days)}"""

# KEYS: birth, seen, marks, then minute, day and room of each tally.
# ARGV: new birth, writer, slot, heard, slots, 1 if leaving, number of tallies, sends and marks, then of each tally
# mine, others, limit; of each send the number of its tally, lease, age; of each mark key, weight, text.
PUSH = """
local call, t = redis.call, redis.call('TIME')
local now, place, slot = t[1] + t[2] / 1e6, 10, ARGV[3]
local function following(count)
  local rows = {}
  for i = 1, count do
    rows[i] = {ARGV[place], ARGV[place + 1], ARGV[place + 2]}
    place = place + 3
  end
  return rows
end
call('SET', KEYS[1], ARGV[1], 'NX')
call('HSET', KEYS[2], slot, math.max(ARGV[4], call('HGET', KEYS[2], slot) or now))
local seen, silent = call('HGETALL', KEYS[2]), {}
for i = 1, #seen, 2 do
  local age = now - seen[i + 1]
  if age > 5 and age <= 172800 then silent[seen[i]] = true end
end

local function look(day, room, tally)
  local used, kept = 0, 0
  for _, n in ipairs(call('HVALS', day)) do used = used + n end
  for _, who in ipairs(call('HKEYS', room)) do
    if not silent[who] then call('HDEL', room, who) end
  end
  for who in pairs(silent) do
    call('HSETNX', room, who, math.max(0, math.floor((tally[3] - used) / ARGV[5])))
    kept = kept + call('HGET', room, who)
  end
  for i, who in ipairs({ARGV[2], 'others'}) do
    local more = tally[i] - (call('HGET', day, who) or 0)
    if more > 0 then call('HINCRBY', day, who, more); used = used + more end
  end
  call('EXPIRE', day, 259200); call('EXPIRE', room, 259200)
  return {used, kept, tonumber(call('HGET', day, ARGV[2]) or 0)}
end

local standings = {}
for i, tally in ipairs(following(ARGV[7])) do
  standings[i] = look(KEYS[3 * i + 2], KEYS[3 * i + 3], tally)
end
for _, sent in ipairs(following(ARGV[8])) do
  local minute = KEYS[3 * sent[1] + 1]
  call('ZREMRANGEBYSCORE', minute, '-inf', now - 61)
  call('ZADD', minute, 'NX', now - sent[3], sent[2]); call('EXPIRE', minute, 120)
end
for _, mark in ipairs(following(ARGV[9])) do
  local old = call('HGET', KEYS[3], mark[1])
  if not old or tonumber(mark[2]) >= tonumber(string.match(old, '^%S+')) then
    call('HSET', KEYS[3], mark[1], mark[2] .. ' ' .. mark[3])
  end
end
call('EXPIRE', KEYS[3], 2764800)
if ARGV[6] == '1' then call('HDEL', KEYS[2], slot) end
return {string.format('%.6f', now), call('GET', KEYS[1]), standings}"""

# KEYS: marks. ARGV: of each mark to drop its key, and the text it had: one that was told anew meanwhile stays.
DROP = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end"""
