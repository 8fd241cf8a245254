"""A network card, armed before the launch, writes each 5 ms; it can reset its function."""

from forgery import EACH, armed_device

ATTACK = armed_device(EACH, "flr=on,ignores-bme=on")
