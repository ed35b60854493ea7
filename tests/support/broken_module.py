"""A module that cannot be imported, for a reason of its own."""

F = 1 // 0
