"""What identical copies in an image table say of each other."""

import pyarrow as pa

from raylab.images.conflicts import conflicting, find, one_line


def table(rows: list[tuple[str, str]], **more: list[str | None]) -> pa.Table:
    columns = {"sha256": [sha256 for sha256, _ in rows], "label": [label for _, label in rows]}
    given = more.pop("given_split", [None] * len(rows))
    return pa.table({**columns, "given_split": pa.array(given, pa.string()), **more})


ROWS = [("x", "sad"), ("y", "sad"), ("x", "fear"), ("y", "sad"), ("z", "happy"), ("x", "sad")]


def test_every_copy_of_a_content_under_two_labels_conflicts() -> None:
    assert conflicting(table(ROWS)).tolist() == [True, False, True, False, False, True]


def test_an_image_that_cannot_be_used_conflicts_with_nothing() -> None:
    images = table(ROWS, status=["ok", "ok", "damaged", "ok", "ok", "ok"])
    assert not conflicting(images).any()
    assert find(images).num_images == 5


def test_no_images_have_no_conflicts() -> None:
    assert conflicting(table(ROWS).slice(0, 0)).tolist() == []


def test_counts_are_of_contents() -> None:
    found = find(table(ROWS))
    assert (found.num_images, found.num_distinct) == (6, 3)
    assert (found.num_duplicate_groups, found.num_conflicting_groups) == (2, 1)
    assert (found.num_conflicting, found.num_leaks) == (3, 0)


def test_a_content_in_two_given_splits_leaks_once() -> None:
    found = find(table(ROWS, given_split=["train", "train", "val", "train", "test", "test"]))
    assert found.num_leaks == 1


def test_one_line_tells_what_becomes_of_the_copies() -> None:
    found = find(table(ROWS))
    assert one_line(found) == (
        "3 distinct of 6 images; 2 duplicate groups kept on one side; "
        "3 images in 1 groups with conflicting labels left out"
    )
    assert one_line(found, left_out=False).endswith("labels kept")
    assert "2 duplicate groups; " in one_line(found, as_given=True)
    assert one_line(find(table([("x", "sad"), ("y", "fear")]))) == "2 distinct of 2 images"
