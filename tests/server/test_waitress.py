"""What ``streamer/server`` builds on in waitress: a new version that moves it fails here, by name."""

import inspect
import re
from typing import Any

import pytest
from waitress import adjustments, buffers, channel, parser, server, task, trigger, utilities, wasyncore

ADVICE = "waitress has changed what streamer/server builds on: compare its source with ours before upgrading"

SIGNATURES = {
    adjustments.Adjustments: "(**kw)",
    buffers.OverflowableBuffer.get: "(self, numbytes=-1, skip=False)",
    buffers.OverflowableBuffer.skip: "(self, numbytes, allow_prune=False)",
    buffers.ReadOnlyFileBasedBuffer.get: "(self, numbytes=-1, skip=False)",
    buffers.ReadOnlyFileBasedBuffer.skip: "(self, numbytes, allow_prune=0)",
    buffers.ReadOnlyFileBasedBuffer.close: "(self)",
    channel.HTTPChannel.__init__: "(self, server, sock, addr, adj, map=None)",
    channel.HTTPChannel.service: "(self)",
    channel.HTTPChannel.cancel: "(self)",
    channel.HTTPChannel.readable: "(self)",
    channel.HTTPChannel.writable: "(self)",
    channel.HTTPChannel.received: "(self, data)",
    channel.HTTPChannel.send_continue: "(self)",
    channel.HTTPChannel.write_soon: "(self, data)",
    channel.HTTPChannel.handle_read: "(self)",
    channel.HTTPChannel.handle_write: "(self)",
    channel.HTTPChannel.handle_close: "(self)",
    channel.HTTPChannel.handle_expt: "(self)",
    channel.HTTPChannel.recv: "(self, buffer_size)",
    channel.HTTPChannel._flush_some: "(self, do_close=True)",
    channel.HTTPChannel._flush_exception: "(self, flush, do_close=True)",
    channel.HTTPChannel._flush_some_if_lockable: "(self, do_close=True)",
    channel.HTTPChannel._flush_outbufs_below_high_watermark: "(self)",
    parser.HTTPRequestParser.__init__: "(self, adj)",
    parser.HTTPRequestParser.received: "(self, data)",
    parser.HTTPRequestParser.parse_header: "(self, header_plus)",
    parser.HTTPRequestParser.get_body_stream: "(self)",
    parser.HTTPRequestParser.close: "(self)",
    server.TcpWSGIServer.__init__: "(self, application, map=None, _start=True, _sock=None, dispatcher=None, "
    "adj=None, sockinfo=None, bind_socket=True, **kw)",
    server.TcpWSGIServer.readable: "(self)",
    server.TcpWSGIServer.accept: "(self)",
    server.TcpWSGIServer.handle_accept: "(self)",
    server.TcpWSGIServer.maintenance: "(self, now)",
    server.TcpWSGIServer.pull_trigger: "(self)",
    server.TcpWSGIServer.set_socket_options: "(self, conn)",
    server.TcpWSGIServer.fix_addr: "(self, addr)",
    server.TcpWSGIServer.add_task: "(self, task)",
    task.Task.__init__: "(self, channel, request)",
    task.Task.service: "(self)",
    task.Task.set_close_on_finish: "(self) -> None",
    task.Task.write: "(self, data)",
    task.Task.build_response_header: "(self)",
    task.WSGITask.execute: "(self)",
    task.WSGITask.get_environment: "(self)",
    task.ErrorTask.execute: "(self)",
    trigger.trigger.pull_trigger: "(self, thunk=None)",
    utilities.Error.__init__: "(self, body)",
    wasyncore.readwrite: "(obj, flags)",
    wasyncore.poll: "(timeout=0.0, map=None)",
    wasyncore.poll2: "(timeout=0.0, map=None)",
    wasyncore.close_all: "(map=None, ignore_all=False)",
    wasyncore.dispatcher.close: "(self)",
}

CALLS = [
    (channel.HTTPChannel.__init__, "self.outbuf_lock = threading.Condition()"),
    (channel.HTTPChannel.__init__, "self.requests_lock = threading.Lock()"),
    (channel.HTTPChannel.__init__, "self.requests = []"),
    (channel.HTTPChannel.__init__, "self.server = server"),
    (channel.HTTPChannel.received, "self.request = self.parser_class(self.adj)"),
    (channel.HTTPChannel.received, "if self.will_close or self.close_when_flushed: return False"),
    (channel.HTTPChannel.received, "if not self.request.empty: self.requests.append(self.request)"),
    (channel.HTTPChannel.received, "self.server.add_task(self)"),
    (channel.HTTPChannel.send_continue, "self._flush_some()"),
    (channel.HTTPChannel.send_continue, "self.sent_continue = True"),
    (channel.HTTPChannel.send_continue, "self.request.expect_continue = False"),
    (channel.HTTPChannel.handle_read, "self.recv(self.adj.recv_bytes)"),
    (channel.HTTPChannel.handle_read, "self.last_activity = time.time()"),
    (channel.HTTPChannel.handle_write, "flush = self._flush_some elif"),
    (channel.HTTPChannel.handle_write, "if self.will_close: self.handle_close()"),
    (channel.HTTPChannel.write_soon, "self.outbufs.append(data)"),
    (channel.HTTPChannel.write_soon, "self.outbufs[-1].append(data)"),
    (channel.HTTPChannel.write_soon, "self._flush_exception( self._flush_some, do_close=False )"),
    (channel.HTTPChannel._flush_outbufs_below_high_watermark, "self.outbuf_lock.wait()"),
    (channel.HTTPChannel.handle_close, "self.outbuf_lock.notify()"),
    (channel.HTTPChannel.handle_close, "wasyncore.dispatcher.close(self)"),
    (channel.HTTPChannel.add_channel, "self.server.active_channels[self._fileno] = self"),
    (channel.HTTPChannel.service, "self.error_task_class(self, request)"),
    (channel.HTTPChannel.service, "self.task_class(self, request)"),
    (channel.HTTPChannel.service, "err_request = self.parser_class(self.adj)"),
    (channel.HTTPChannel.service, "for request in self.requests: request.close()"),
    (channel.HTTPChannel.service, "self.requests.pop(0)"),
    (parser.HTTPRequestParser.received, "self.parse_header(header_plus)"),
    (parser.HTTPRequestParser.received, "except ParsingError as e:"),
    (parser.HTTPRequestParser.received, "if self.body_rcv is None:"),
    (parser.HTTPRequestParser.received, 'self.parse_header(b"GET / HTTP/1.0\\r\\n")'),
    (parser.HTTPRequestParser.received, "self.body_bytes_received += consumed"),
    (parser.HTTPRequestParser.parse_header, 'headers.pop("TRANSFER_ENCODING", "")'),
    (parser.HTTPRequestParser.parse_header, 'headers[key1] += (b", " + value)'),
    (parser.HTTPRequestParser.parse_header, "self.proxy_netloc,"),
    (parser.HTTPRequestParser.close, "body_rcv.getbuf().close()"),
    (server.BaseWSGIServer.__init__, "self.trigger = trigger.trigger(map)"),
    (server.BaseWSGIServer.__init__, "self.active_channels = {}"),
    (server.BaseWSGIServer.handle_accept, "self.channel_class(self, conn, addr, self.adj, map=self._map)"),
    (task.Task.service, "self.start() self.execute() self.finish()"),
    (task.Task.write, "rh = self.build_response_header() channel.write_soon(rh)"),
    (task.Task.build_response_header, "self.chunked_response = True"),
    (task.Task.build_response_header, "build_http_date(self.start_time)"),
    (task.WSGITask.execute, "isinstance(app_iter, ReadOnlyFileBasedBuffer)"),
    (task.WSGITask.execute, "self.channel.write_soon(app_iter)"),
    (trigger.trigger.handle_read, "for thunk in self.thunks:"),
    (wasyncore.dispatcher.add_channel, "map[self._fileno] = self"),
    (wasyncore.dispatcher.del_channel, "del map[fd]"),
    (wasyncore.dispatcher.del_channel, "self._fileno = None"),
    (wasyncore.dispatcher.close, "self.del_channel() if self.socket is not None: try: self.socket.close()"),
    (wasyncore.dispatcher.handle_expt_event, "self.handle_expt()"),
    (wasyncore.dispatcher.recv, "self.handle_close()"),
    (wasyncore.readwrite, "obj.handle_read_event()"),
    (wasyncore.readwrite, "obj.handle_write_event()"),
    (wasyncore.readwrite, "obj.handle_close()"),
    (wasyncore.poll2, "list(map.items())"),
    (wasyncore.poll2, "obj = map.get(fd)"),
    (wasyncore.close_all, "list(map.values())"),
]

DEFAULTS: list[tuple[type, dict[str, Any]]] = [
    (
        channel.HTTPChannel,
        {
            "request": None,
            "will_close": False,
            "close_when_flushed": False,
            "sent_continue": False,
            "total_outbufs_len": 0,
            "parser_class": parser.HTTPRequestParser,
            "task_class": task.WSGITask,
            "error_task_class": task.ErrorTask,
        },
    ),
    (
        parser.HTTPRequestParser,
        {
            "completed": False,
            "empty": False,
            "expect_continue": False,
            "headers_finished": False,
            "chunked": False,
            "content_length": 0,
            "body_bytes_received": 0,
            "body_rcv": None,
            "version": "1.0",
            "error": None,
            "connection_close": False,
        },
    ),
    (task.Task, {"close_on_finish": False, "wrote_header": False, "content_length": None, "complete": False}),
    (task.ErrorTask, {"complete": True}),
    (server.TcpWSGIServer, {"channel_class": channel.HTTPChannel}),
    (adjustments.Adjustments, {"send_bytes": 1, "channel_request_lookahead": 0, "log_socket_errors": True}),
]


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE))


@pytest.mark.parametrize("thing", SIGNATURES, ids=lambda thing: thing.__qualname__)
def test_signatures(thing: Any) -> None:
    assert str(inspect.signature(thing)) == SIGNATURES[thing], ADVICE


@pytest.mark.parametrize(("function", "text"), CALLS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_what_is_called_and_set(function: Any, text: str) -> None:
    assert text in _on_one_line(inspect.getsource(function)), f"{function.__qualname__}: {ADVICE}"


@pytest.mark.parametrize(("owner", "defaults"), DEFAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_attributes(owner: type, defaults: dict[str, Any]) -> None:
    found = {name: getattr(owner, name, "nothing") for name in defaults}
    assert found == defaults, ADVICE


def test_a_file_under_the_wrapper_is_the_buffer() -> None:
    """``FileChannel`` finds the slice as ``file`` of the buffer."""
    marker = object()
    assert buffers.ReadOnlyFileBasedBuffer(marker).file is marker, ADVICE
