"""The same, of a card that nothing resets."""

from forgery import EACH, armed_device

ATTACK = armed_device(EACH, "ignores-bme=on")
