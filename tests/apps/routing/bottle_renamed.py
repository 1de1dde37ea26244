"""A copy of Bottle under an unrelated name."""

from bottle_vendored import copy_of_bottle, shop

app = shop(copy_of_bottle("shop.web"))
