"""A copy of Bottle under a name that does not tell what it is."""

from bottle_vendored import copy_of_bottle, shop

app = shop(copy_of_bottle("shop.web"))
