"""What a bridge was given is posted once, in order, whatever breaks meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.gateway.bridges.kernel import Answer, Pauses, Poster, Spool, SpoolFull

TAKEN = Answer(200, {"accepted": 1, "duplicate": 0, "ignored": 0, "rejected": []})


class Gateway:
    """Answers as scripted, then takes everything; keeps what it took."""

    def __init__(self, *answers: Answer, refuses: bytes = b"") -> None:
        self.answers, self.refuses, self.taken = list(answers), refuses, b""

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        answer = self.answers.pop(0) if self.answers else TAKEN
        if self.refuses and self.refuses in body:
            answer = Answer(400, {"detail": "cannot be read"})
        if answer.taken:
            self.taken += body
        return answer

    def close(self) -> None:
        pass


def deliver_all(poster: Poster) -> None:
    for _ in range(100):
        if poster.deliver() is None:
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    "trouble", [Answer(0, {}), Answer(503, {}, 2.0), Answer(429, {}), Answer(401, {}), Answer(404, {}), Answer(301, {})]
)
def test_what_is_the_gateways_or_the_operators_trouble_is_sent_again(tmp_path: Path, trouble: Answer) -> None:
    gateway = Gateway(trouble, trouble)
    poster = Poster(gateway, "/v1/x", Spool(tmp_path))
    assert poster.put(b"one\n") and poster.put(b"two\n")
    assert poster.deliver() == trouble
    deliver_all(poster)
    assert gateway.taken == b"one\ntwo\n"


def test_order_is_kept_over_segments_and_restarts(tmp_path: Path) -> None:
    said = [b"%d\n" % n for n in range(500)]
    gateway = Gateway()
    for start in range(0, 500, 100):
        spool = Spool(tmp_path, segment_bytes=64)
        poster = Poster(gateway, "/v1/x", spool, batch_items=7)
        for item in said[start : start + 100]:
            poster.put(item)
        for _ in range(5):
            poster.deliver()
        spool.close()  # as when the process ends: nothing more is delivered
    deliver_all(Poster(gateway, "/v1/x", Spool(tmp_path)))
    assert gateway.taken == b"".join(said)
    assert len(list(tmp_path.glob("*.spool"))) <= 2


def test_what_was_posted_without_its_answer_being_noted_is_posted_again(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.append(b"one\n")
    assert first.batch() == [b"one\n"]
    first.close()
    assert Spool(tmp_path).batch() == [b"one\n"]


@pytest.mark.parametrize("left", [0, 1, 2, 5, 7])
def test_a_record_cut_off_by_the_end_of_the_process_is_passed_over(tmp_path: Path, left: int) -> None:
    spool = Spool(tmp_path)
    spool.append(b"whole\n")
    size = next(tmp_path.glob("*.spool")).stat().st_size
    spool.append(b"cut\r\n\r\n")
    spool.close()
    segment = next(tmp_path.glob("*.spool"))
    segment.write_bytes(segment.read_bytes()[: size + left])
    spool = Spool(tmp_path)
    spool.append(b"after\n")
    gateway = Gateway()
    deliver_all(Poster(gateway, "/v1/x", spool))
    assert gateway.taken == b"whole\nafter\n"


def test_one_item_that_is_refused_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    gateway = Gateway(refuses=b"bad")
    poster = Poster(gateway, "/v1/x", Spool(tmp_path))
    for item in (b"one\n", b"two\n", b"bad\n", b"three\n"):
        poster.put(item)
    deliver_all(poster)
    assert gateway.taken == b"one\ntwo\nthree\n"
    assert [path.read_bytes() for path in (tmp_path / "refused").iterdir()] == [b"bad\n"]
    assert (poster.counts.items, poster.counts.set_aside) == (3, 1)


def test_trouble_while_a_refused_batch_is_halved_loses_nothing(tmp_path: Path) -> None:
    gateway = Gateway(Answer(413, {}), TAKEN, Answer(503, {}))
    poster = Poster(gateway, "/v1/x", Spool(tmp_path))
    for item in (b"one\n", b"two\n"):
        poster.put(item)
    deliver_all(poster)
    assert gateway.taken == b"one\n" + b"one\ntwo\n"


def test_a_full_spool_says_so_and_has_room_after_delivery(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=100, segment_bytes=40)
    poster = Poster(Gateway(), "/v1/x", spool)
    kept = sum(poster.put(b"0123456789") for _ in range(20))
    assert 5 <= kept < 10
    assert poster.counts.lost == 20 - kept
    with pytest.raises(SpoolFull):
        spool.append(b"0123456789")
    deliver_all(poster)
    assert poster.put(b"0123456789")


def test_a_folder_is_one_bridges_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    spool.append(b"x")
    assert folder.stat().st_mode & 0o077 == 0
    assert next(folder.glob("*.spool")).stat().st_mode & 0o077 == 0
    with pytest.raises(BlockingIOError):
        Spool(folder)


def test_the_thread_delivers_after_trouble_and_close_delivers_the_rest(tmp_path: Path) -> None:
    gateway, heard = Gateway(Answer(503, {})), threading.Event()
    take = gateway.post

    def post(path: str, body: bytes, content_type: str) -> Answer:
        answer = take(path, body, content_type)
        if answer.taken:
            heard.set()
        return answer

    gateway.post = post  # type: ignore[method-assign]
    poster = Poster(gateway, "/v1/x", Spool(tmp_path), pauses=Pauses(0.001, 0.002))
    poster.start()
    poster.put(b"first\n")
    assert heard.wait(20)
    for n in range(50):
        poster.put(b"%d\n" % n)
    poster.close()
    assert gateway.taken == b"first\n" + b"".join(b"%d\n" % n for n in range(50))


def test_what_close_could_not_deliver_waits_for_the_next_start(tmp_path: Path) -> None:
    poster = Poster(Gateway(*[Answer(503, {})] * 9), "/v1/x", Spool(tmp_path))
    poster.put(b"one\n")
    poster.close()
    gateway = Gateway()
    deliver_all(Poster(gateway, "/v1/x", Spool(tmp_path)))
    assert gateway.taken == b"one\n"


def test_pauses_grow_to_a_bound_and_begin_anew() -> None:
    pauses = Pauses(1, 8)
    assert [pauses.next() <= bound for bound in (1, 2, 4, 8, 8)] == [True] * 5
    assert pauses.next(at_least=20) == 20
    pauses.reset()
    assert pauses.next() <= 1
