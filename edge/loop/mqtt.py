"""Publishes the state of a run by MQTT, and describes it to Home Assistant.

Topics, below `edgecell/HOST` unless the address names another:

- `availability`: 'online' or 'offline', retained; the broker says 'offline' by itself
  when the device is gone (the last will).
- `state`: JSON, retained, once a second: the health of the loop and the count.

An unreachable broker does not delay the run. The client tries again with growing
pauses.
"""

import json
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edgecell import __version__
from edgecell.edge.loop.run import Observer, Run
from edgecell.edge.show.health import Health
from edgecell.errors import InputError
from edgecell.optional import require

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_DISCOVERY = "homeassistant"
_KEEPALIVE_S = 20
_LONGEST_PAUSE_S = 60
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Sensor:
    """One value of the state as Home Assistant shows it.

    Attributes:
        key: its path within the state, as a Jinja expression.
        name: what people read.
        unit: of measurement; empty for none.
        kind: Home Assistant's device class; empty for none.
    """

    key: str
    name: str
    unit: str = ""
    kind: str = ""


SENSORS: tuple[Sensor, ...] = (
    Sensor("health.source", "Camera"),
    Sensor("health.recording", "Recording"),
    Sensor("health.fps", "Frames a second", "fps"),
    Sensor("health.age_ms", "Age of the last frame", "ms", "duration"),
    Sensor("health.board.temperature_c", "Board temperature", "°C", "temperature"),
    Sensor("white_cells", "White cells"),
    Sensor("to_review", "Cells to review"),
)


@dataclass(frozen=True)
class Broker:
    """Where to publish.

    Attributes:
        host: name or address.
        port: TCP port.
        tls: whether the connection is encrypted.
        user: to sign in as; None for nobody.
        password: likewise.
        topic: what all topics begin with.
    """

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None
    topic: str


def parse_broker(address: str) -> Broker:
    """Reads 'mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC]', or 'mqtts://...'.

    Raises:
        InputError: it is no such address.
    """
    parts = urlsplit(address)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    topic = parts.path.strip("/") or f"edgecell/{_plain(socket.gethostname())}"
    if not parts.hostname or not port or set(address) & set("+#?"):
        raise InputError(
            "a broker's address is mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC], or "
            "mqtts:// with encryption"
        )
    user, password = (
        None if part is None else unquote(part)
        for part in (parts.username, parts.password)
    )
    return Broker(parts.hostname, port, parts.scheme == "mqtts", user, password, topic)


class MqttObserver(Observer):
    """Publishes a run's state while it is open; use it as a context manager."""

    def __init__(self, broker: Broker) -> None:
        """Prepares the connection; it is made when the observer is entered.

        Raises:
            MissingPackageError: paho-mqtt is not installed.
        """
        mqtt = require("paho.mqtt.client", "monitor")
        self._broker = broker
        self._run: Run | None = None
        name = f"edgecell-{_plain(broker.topic)}"
        version = mqtt.CallbackAPIVersion.VERSION2
        client: Client = mqtt.Client(version, client_id=name)
        client.will_set(self._topic("availability"), "offline", 1, retain=True)
        client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        client.on_connect = self._connected
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set()
        self._client = client

    def __enter__(self) -> "MqttObserver":
        self._client.connect_async(self._broker.host, self._broker.port, _KEEPALIVE_S)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._client.is_connected():
            last = self._publish("availability", "offline", qos=1)
            last.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def begun(self, run: Run) -> None:
        """A session begins."""
        self._run = run

    def health(self, health: Health) -> None:
        """Publishes the state; once a second."""
        if self._run is None or not self._client.is_connected():
            return
        state = state_of(self._run, health)
        self._publish("state", json.dumps(state), qos=0)

    def _connected(self, *_: Any) -> None:
        """Runs after each reconnection too: the broker may have lost everything."""
        for topic, payload in discovery(self._broker.topic):
            self._client.publish(topic, json.dumps(payload), 1, retain=True)
        self._publish("availability", "online", qos=1)

    def _publish(self, name: str, payload: str, qos: int) -> Any:
        return self._client.publish(self._topic(name), payload, qos, retain=True)

    def _topic(self, name: str) -> str:
        return f"{self._broker.topic}/{name}"


def state_of(run: Run, health: Health) -> dict[str, Any]:
    """What the state topic says, ready for JSON."""
    differential = run.differential
    return {
        "session": run.out.name,
        "paused": run.paused,
        "white_cells": differential.white_cells,
        "to_review": differential.to_review,
        "counted": dict(differential.counted),
        "health": health.to_dict(),
    }


def discovery(topic: str) -> list[tuple[str, dict[str, Any]]]:
    """Home Assistant's discovery messages (home-assistant.io/integrations/mqtt).

    Args:
        topic: what all of a device's topics begin with.

    Returns:
        Topic and payload for each of `SENSORS`.
    """
    node = _plain(topic)
    device = {
        "identifiers": [node],
        "name": topic,
        "model": "edgecell",
        "sw_version": __version__,
    }
    messages = []
    for sensor in SENSORS:
        name = _plain(sensor.key)
        payload: dict[str, Any] = {
            "name": sensor.name,
            "unique_id": f"{node}-{name}",
            "state_topic": f"{topic}/state",
            "value_template": "{{ value_json." + sensor.key + " }}",
            "availability_topic": f"{topic}/availability",
            "device": device,
        }
        if sensor.unit:
            payload["unit_of_measurement"] = sensor.unit
        if sensor.kind:
            payload["device_class"] = sensor.kind
        messages.append((f"{_DISCOVERY}/sensor/{node}/{name}/config", payload))
    return messages


def _plain(text: str) -> str:
    """Only letters, digits, '_' and '-', which every topic and identifier accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)
