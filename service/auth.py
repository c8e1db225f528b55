"""Who calls: the accounts, their keys, and the operator's key.

Knows the records of users in Redis and the admin key's file. A user's key is kept as its SHA-256 only: it is 256
random bits, so nothing slower is needed. Does not know HTTP, messages or adapters. Every change is one Lua script,
so that no crash leaves a key without its user or a user without a key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from feedback import keys
from feedback.calls import Call, Script
from feedback.connection import Store
from feedback.scripts import ANY

# Each script may run twice, and its first write is one that a full server refuses; but a user can always go.

# KEYS: ids, api keys, accounts' order, counter, this account · ARGV: id, uid, key's hash, account
_ADD = Script("""
local holder = redis.call('HGET', KEYS[1], ARGV[1])
if holder and holder ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[3], 'NX', redis.call('INCR', KEYS[4]), ARGV[2])
redis.call('SET', KEYS[5], ARGV[4])
return 1
""")

# KEYS: api keys, this account, leaving · ARGV: uid, new key's hash
_ROTATE = Script("""
local record = redis.call('GET', KEYS[2])
if not record or redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 then return 0 end
local account = cjson.decode(record)
local old = account['key_hash']
redis.call('HSET', KEYS[1], ARGV[2], ARGV[1])
if old ~= ARGV[2] then redis.call('HDEL', KEYS[1], old) end
account['key_hash'] = ARGV[2]
redis.call('SET', KEYS[2], cjson.encode(account))
return 1
""")

# KEYS: ids, api keys, this account, leaving · ARGV: uid
_LOCK_OUT = Script("""
local record = redis.call('GET', KEYS[3])
if not record then return 0 end
local account = cjson.decode(record)
redis.call('HDEL', KEYS[2], account['key_hash'])
if redis.call('HGET', KEYS[1], account['id']) == ARGV[1] then redis.call('HDEL', KEYS[1], account['id']) end
redis.call('SADD', KEYS[4], ARGV[1])
return 1
""")

# KEYS: this account, accounts' order, leaving, rewrite · ARGV: uid
_FORGET = Script("""
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], '1')
""")

# KEYS: api keys · ARGV: key's hash, any account
_HOLDER = Script("""
local uid = redis.call('HGET', KEYS[1], ARGV[1])
return uid and redis.call('GET', string.format(ARGV[2], uid))
""")


class IdInUse(Exception):
    """Another user has this id."""


class NoSuchUser(Exception):
    """There is no user with this id, or no longer."""


@dataclass(frozen=True)
class Account:
    """A user: `id` is known outside, `uid` is the random name of folders and keys inside. `created`: Unix seconds."""

    id: str
    uid: str
    created: int
    key_hash: str


class Accounts:
    """The users of one service."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, id: str | None, uid: str) -> tuple[Account, str]:
        """A new user and the key, which nobody can read again. Raises `IdInUse`."""
        key = _new_key()
        account = Account(id or f"user_{secrets.token_hex(8)}", uid, int(time.time()), hashed(key))
        names = [keys.IDS, keys.API_KEYS, keys.ACCOUNTS, keys.ACCOUNT_COUNTER, keys.account(uid)]
        record = json.dumps(asdict(account))
        if not self._store.write(_ADD, names, [account.id, uid, account.key_hash, record]):
            raise IdInUse(f"the id {account.id!r} is in use; choose another or leave it out")
        return account, key

    def rotate(self, id: str) -> str:
        """A new key for a user; the old one stops working. Raises `NoSuchUser`."""
        account, key = self.named(id), _new_key()
        names = [keys.API_KEYS, keys.account(account.uid), keys.LEAVING]
        if not self._store.write(_ROTATE, names, [account.uid, hashed(key)]):
            raise _no_user(id)
        return key

    def named(self, id: str) -> Account:
        """The user with this id. Raises `NoSuchUser`."""
        uid = cast("str | None", self._store.hget(keys.IDS, id))
        account = self.of(uid) if uid else None
        if account is None:
            raise _no_user(id)
        return account

    def holder(self, key: str) -> Call[Account | None]:
        """Finds the user whose key this is."""
        return Call(_HOLDER, [keys.API_KEYS], [hashed(key), keys.account(ANY)], _account, durable=False)

    def page(self, limit: int, after: int) -> tuple[list[Account], int | None]:
        """Users in the order in which they were made, from behind the cursor `after`, and the next cursor.

        Those who are being deleted are left out, so a page may be shorter than `limit`.
        """
        found: Any = self._store.zrangebyscore(
            keys.ACCOUNTS, f"({after}", "+inf", start=0, num=limit + 1, withscores=True
        )
        leaving = set(self.leaving())
        accounts = [account for uid, _ in found[:limit] if uid not in leaving and (account := self.of(uid))]
        return accounts, int(found[limit - 1][1]) if len(found) > limit else None

    def uids(self) -> list[str]:
        """Every user's uid."""
        return cast(list[str], self._store.zrange(keys.ACCOUNTS, 0, -1))

    # Deletion has two steps: first nobody can come in as this user, at the end nobody knows that there was one.

    def lock_out(self, uid: str) -> None:
        """From now on neither id nor key leads to this user. Raises `NoSuchUser`."""
        names = [keys.IDS, keys.API_KEYS, keys.account(uid), keys.LEAVING]
        if not self._store.write(_LOCK_OUT, names, [uid]):
            raise NoSuchUser("this user is no longer here")

    def leaving(self) -> list[str]:
        """The uids whose deletion began and did not end."""
        return list(cast(set[str], self._store.smembers(keys.LEAVING)))

    def forget(self, uid: str) -> None:
        """The last traces of a user who was locked out; that Redis's file still has some is noted, not whose."""
        names = [keys.account(uid), keys.ACCOUNTS, keys.LEAVING, keys.REWRITE]
        self._store.write(_FORGET, names, [uid])

    def of(self, uid: str) -> Account | None:
        """The user with this uid, one who is being deleted too."""
        return _account(self._store.get(keys.account(uid)))


class AdminKey:
    """The operator's key: `given`, or kept in `file` (mode 0600), made there if there is none."""

    def __init__(self, given: str | None, file: Path) -> None:
        self.made: str | None = None  # the key, if it was made just now and is to be shown this once
        self._digest = hashed(given or self._kept(file))

    def matches(self, key: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(hashed(key), self._digest)

    def _kept(self, file: Path) -> str:
        try:
            if key := file.read_text().strip():
                return key
        except FileNotFoundError:
            pass
        self.made = key = f"tt-admin-{secrets.token_urlsafe(32)}"
        draft = file.with_name(f".{file.name}.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(key + "\n")
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        return key


def new_uid() -> str:
    """A random internal id."""
    return secrets.token_hex(12)


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _new_key() -> str:
    return f"tt-{secrets.token_urlsafe(32)}"


def _account(record: Any) -> Account | None:
    return Account(**json.loads(record)) if record else None


def _no_user(id: str) -> NoSuchUser:
    return NoSuchUser(f"there is no user {id!r}")
