"""Waiting for sockets: what waitress calls the map, which also turns the loop.

A channel tells by ``readable()`` and ``writable()`` what it waits for. waitress
asks every channel on every turn, so a thousand connections that do nothing cost
as much as a thousand that do. ``EpollLoop`` asks a channel only when something
has happened to it, and leaves the rest to the kernel.
"""

import select
import threading
from typing import Any

from waitress import wasyncore

READ = select.EPOLLIN | select.EPOLLPRI if hasattr(select, "epoll") else 0
WRITE = select.EPOLLOUT if hasattr(select, "epoll") else 0

# waitress has no types: a dispatcher is a listening socket, a channel or a trigger
Dispatcher = Any


class PollLoop(dict[int, Dispatcher]):
    """waitress's own way, for systems without epoll."""

    def turn(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for events and deal with them."""
        poll = wasyncore.poll2 if hasattr(select, "poll") else wasyncore.poll
        poll(timeout, self)

    def rearm(self, channel: Dispatcher) -> None:
        """A channel waits for something else than before; may be called in any thread."""
        if channel.connected:  # else there may be no trigger any more
            channel.server.trigger.pull_trigger()  # the next turn asks all of them


class EpollLoop(dict[int, Dispatcher]):
    """epoll with an interest that is changed when a channel's has changed.

    Worker threads change it themselves, without waking the loop. Only sockets that
    wait for something are registered: an error on one that a worker thread is busy
    with would be reported on every turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._registered: dict[int, int] = {}
        self._added: list[Dispatcher] = []
        self._listening: list[Dispatcher] = []
        # held while a channel is asked and registered: the last to do so has seen its last state
        self._lock = threading.Lock()

    def turn(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for events and deal with them."""
        self._arm_added()
        for listener in self._listening:
            self.rearm(listener)  # whether there is room for another connection
        # by the time that an event is dealt with, its descriptor may be another connection's
        events = [
            (descriptor, self.get(descriptor), event) for descriptor, event in self._epoll.poll(timeout)
        ]
        for descriptor, dispatcher, event in events:
            if dispatcher is None or self.get(descriptor) is not dispatcher:  # closed by an event before
                continue
            wasyncore.readwrite(dispatcher, event)
            self.rearm(dispatcher)
            self._arm_added()

    def rearm(self, dispatcher: Dispatcher) -> None:
        """A dispatcher may wait for something else than before; may be called in any thread."""
        with self._lock:
            descriptor = dispatcher._fileno
            if descriptor not in self or self[descriptor] is not dispatcher:  # closed
                return
            wanted = (READ if dispatcher.readable() else 0) | (WRITE if dispatcher.writable() else 0)
            self._register(descriptor, wanted)

    def _register(self, descriptor: int, wanted: int) -> None:
        present = self._registered.get(descriptor, 0)
        if wanted == present:
            return
        if not present:
            self._epoll.register(descriptor, wanted)
        elif not wanted:
            self._epoll.unregister(descriptor)
        else:
            self._epoll.modify(descriptor, wanted)
        self._registered[descriptor] = wanted

    def _arm_added(self) -> None:
        while self._added:
            dispatcher = self._added.pop()
            if dispatcher.accepting:
                self._listening.append(dispatcher)
            self.rearm(dispatcher)

    def __setitem__(self, descriptor: int, dispatcher: Dispatcher) -> None:
        super().__setitem__(descriptor, dispatcher)
        self._added.append(dispatcher)  # it is under construction, so it cannot be asked yet

    def __delitem__(self, descriptor: int) -> None:
        with self._lock:
            self._register(descriptor, 0)
            super().__delitem__(descriptor)
