import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgecell.edge.count.differential import Differential
from edgecell.edge.loop.mqtt import (
    SENSORS,
    Broker,
    MqttObserver,
    discovery,
    parse_broker,
    state_of,
)
from edgecell.edge.show.health import Board, Health
from edgecell.errors import InputError

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
HEALTH = Health(
    "on", 9, 0, 0, 0, 9, {}, 4, 12.5, 25.0, "on", 9, 0, 0, 3.0, board=Board(51.0, None)
)  # fmt: skip
RUN: Any = SimpleNamespace(
    out=Path("s-1"), paused=False, differential=Differential({"LY": 3}, {"SNE": 1})
)


@pytest.mark.parametrize(
    ("address", "broker"),
    [
        ("mqtt://pi/lab", Broker("pi", 1883, False, None, None, "lab")),
        ("mqtts://a:b%40c@h:99/x/y", Broker("h", 99, True, "a", "b@c", "x/y")),
    ],
)
def test_addresses(address: str, broker: Broker) -> None:
    assert parse_broker(address) == broker


@pytest.mark.parametrize(
    "address", ["", "pi", "http://pi", "mqtt://", "mqtt://pi:x", "mqtt://pi/a/#"]
)
def test_no_broker(address: str) -> None:
    with pytest.raises(InputError):
        parse_broker(address)


def test_every_sensor_shows_a_value_of_the_state() -> None:
    state = json.loads(json.dumps(state_of(RUN, HEALTH)))
    for sensor in SENSORS:
        value = state
        for part in sensor.key.split("."):
            value = value[part]
        assert value is not None
    topics = [topic for topic, _ in discovery("edgecell/pi")]
    assert len(set(topics)) == len(SENSORS)
    assert topics[0] == "homeassistant/sensor/edgecell-pi/health-source/config"


class Listener:
    """Collects what a broker is told, by topic."""

    def __init__(self, port: int) -> None:
        self.said: dict[str, list[str]] = {}
        self._news = threading.Condition()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._take
        client.connect("127.0.0.1", port)
        client.subscribe("#", 1)
        client.loop_start()
        self.client = client

    def _take(self, _: Any, __: Any, message: Any) -> None:
        with self._news:
            self.said.setdefault(message.topic, []).append(message.payload.decode())
            self._news.notify_all()

    def waits_for(self, holds: Callable[[dict[str, list[str]]], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: holds(self.said), 20), self.said


@pytest.fixture
def port() -> Iterator[int]:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto is installed")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        number = int(s.getsockname()[1])
    with subprocess.Popen([MOSQUITTO, "-p", str(number)], stderr=-3) as broker:
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", number)) == 0:
                    break
        yield number
        broker.terminate()


def test_a_broker_is_told_and_says_when_the_device_is_gone(port: int) -> None:
    broker = Broker("127.0.0.1", port, False, None, None, "lab/pi")
    listener = Listener(port)
    observer = MqttObserver(broker)
    observer.begun(RUN)
    with observer:
        listener.waits_for(lambda said: "lab/pi/availability" in said)
        observer.health(HEALTH)
        listener.waits_for(lambda said: "lab/pi/state" in said)
    listener.waits_for(lambda said: said["lab/pi/availability"][-1] == "offline")
    assert listener.said["lab/pi/availability"] == ["online", "offline"]
    state = json.loads(listener.said["lab/pi/state"][-1])
    assert (state["white_cells"], state["to_review"]) == (3, 1)
    found = [topic for topic in listener.said if topic.startswith("homeassistant/")]
    assert len(found) == len(SENSORS)
    listener.client.loop_stop()


def test_the_last_will_is_said_by_the_broker(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker("127.0.0.1", port, False, None, None, "lab/pi")
    listener = Listener(port)
    opened: list[socket.socket] = []

    def connected(*args: Any, **settings: Any) -> socket.socket:
        opened.append(connect(*args, **settings))
        return opened[-1]

    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connected)
    with MqttObserver(broker):
        listener.waits_for(lambda said: "lab/pi/availability" in said)
        opened[0].shutdown(socket.SHUT_RDWR)  # as when the device loses its power
        listener.waits_for(lambda said: "offline" in said["lab/pi/availability"])
        listener.waits_for(lambda said: said["lab/pi/availability"][-1] == "online")
    listener.client.loop_stop()


def test_a_broker_that_is_away_holds_nothing_up() -> None:
    observer = MqttObserver(Broker("127.0.0.1", 9, False, None, None, "x"))
    observer.begun(RUN)
    with observer:
        observer.health(HEALTH)
