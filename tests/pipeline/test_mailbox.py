import threading

from re2pix_node.pipeline.mailbox import Mailbox


def test_the_newest_item_wins_and_the_overtaken_are_counted() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for item in (1, 2, 3):
        mailbox.put(item)
    assert mailbox.take() == 3
    assert mailbox.overtaken == 2
    mailbox.put(4)
    assert mailbox.take() == 4
    assert mailbox.overtaken == 2


def test_items_in_several_slots_are_taken_in_order_and_the_oldest_is_overtaken() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    assert not mailbox.holds_any()
    assert [mailbox.put(item) for item in (1, 2, 3)] == [False, False, True]
    assert mailbox.take() == 2
    assert mailbox.holds_any()
    assert mailbox.take() == 3
    assert (mailbox.overtaken, mailbox.holds_any()) == (1, False)


def test_take_waits_for_an_item() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    worker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    worker.start()
    worker.join(0.1)
    assert worker.is_alive()
    mailbox.put(7)
    worker.join(60)
    assert taken == [7]


def test_closing_ends_the_wait_and_drops_what_lies_there() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = [0]
    worker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    worker.start()
    mailbox.close()
    worker.join(60)
    assert taken == [0, None]
    mailbox.put(1)
    assert mailbox.take() is None
