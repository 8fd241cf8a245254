"""The same, of a card that is reset by sleep and waking."""

from forgery import EACH, armed_device

ATTACK = armed_device(EACH, "pm=on,ignores-bme=on")
