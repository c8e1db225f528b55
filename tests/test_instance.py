"""A data folder and a Redis belong together, on a real server."""

import threading

import pytest

from feedback import keys
from feedback.connection import connect
from feedback.instance import FILE, OtherInstance, check_instance


def test_two_new_ones_belong_together_from_then_on(redis, tmp_path):
    id = check_instance(redis, tmp_path / "data")
    assert len(id) == 32 and redis.get(keys.INSTANCE) == id
    assert check_instance(redis, tmp_path / "data") == id
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FILE]


def test_another_folder_is_refused_and_nothing_is_made(redis, tmp_path):
    check_instance(redis, tmp_path / "one")
    with pytest.raises(OtherInstance, match="is new"):
        check_instance(redis, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_another_redis_is_refused(redis, tmp_path):
    check_instance(redis, tmp_path)
    redis.set(keys.INSTANCE, "0" * 32)
    with pytest.raises(OtherInstance, match="another data folder"):
        check_instance(redis, tmp_path)


def test_a_redis_that_lost_its_data_is_refused(redis, tmp_path):
    check_instance(redis, tmp_path)
    redis.flushdb()
    for _ in range(2):
        with pytest.raises(OtherInstance, match="is empty"):
            check_instance(redis, tmp_path)
    assert not redis.exists(keys.INSTANCE)


@pytest.mark.parametrize("reached", [False, True], ids=["before Redis", "after Redis"])
def test_a_first_start_cut_short_goes_on(redis, tmp_path, reached):
    (tmp_path / FILE).write_text("abc new\n")
    if reached:
        redis.set(keys.INSTANCE, "abc")
    assert check_instance(redis, tmp_path) == "abc"
    assert (tmp_path / FILE).read_text() == "abc\n"


def test_a_first_start_cut_short_does_not_take_another_folders_redis(redis, tmp_path):
    (tmp_path / FILE).write_text("abc new\n")
    redis.set(keys.INSTANCE, "def")
    with pytest.raises(OtherInstance):
        check_instance(redis, tmp_path)


def test_an_api_and_trainers_that_start_together_agree(redis, redis_url, tmp_path):
    found, ready = [], threading.Barrier(8)

    def start():
        with connect(redis_url) as store:
            ready.wait()
            found.append(check_instance(store, tmp_path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
