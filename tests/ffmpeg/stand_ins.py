"""Programs that stand in for ffmpeg and behave as badly as one can.

Each answers the questions of ``find_tools`` as ffmpeg does, so that it can be the
setting STREAMER_FFMPEG, and does whatever else it is started for in its own way.
"""

import os
import sys
from pathlib import Path

ANSWERS = """
import os, signal, sys, time
answers = {
    "-version": "ffmpeg version 7.0-stand-in Copyright (c) nobody",
    "-encoders": " ------\\n V..... libx264  H\\n A..... aac  A\\n V..... mjpeg  M\\n V..... png  P",
    "-filters": " ... scale  V->V  Scale\\n ... tile  V->V  Tile\\n ... null  V->V  Nothing",
}
for question, answer in answers.items():
    if question in sys.argv:
        print(answer)
        sys.exit()
if "-progress" in sys.argv:
    progress = int(sys.argv[sys.argv.index("-progress") + 1].removeprefix("pipe:"))
def tell(name, value):
    with open(name + ".new", "w") as file:
        file.write(str(value))
    os.rename(name + ".new", name)
"""
PROGRAMS = {
    "succeeds": "print('done')",
    "fails": "sys.exit('it went wrong')",
    "says": "print(*sys.argv[1:], sep='\\n')",
    "complains": "os.write(2, os.fsencode(sys.argv[1])); sys.exit(1)",
    "sleeps": "tell('pid', os.getpid()); time.sleep(600)",
    "ignores_sigterm": "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell('pid', os.getpid())\n"
    "while True: time.sleep(600)",
    "obeys_sigterm": "signal.signal(signal.SIGTERM, lambda *_: (tell('obeyed', 1), sys.exit(255)))\n"
    "tell('pid', os.getpid())\n"
    "while True: time.sleep(600)",
    "floods_messages": "for _ in range(3200): os.write(2, b'all is lost, all is lost, again\\n' * 2048)\n"
    "sys.exit(1)",
    "floods_output": "for _ in range(16384): os.write(1, bytes(65536))",
    "fills_the_disk": "with open('out', 'wb') as file:\n    while True: file.write(bytes(65536))",
    "reports_a_full_disk": "sys.exit('out: ' + os.strerror(28))",
    "eats_memory": "try: bytearray(64 * 2**30)\nexcept MemoryError: sys.exit(os.strerror(12))",
    "is_killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "crashes": "os.kill(os.getpid(), signal.SIGSEGV)",
    "spins": "while True: pass",
    "spins_on": "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "forks": "child = os.fork()\nif not child: time.sleep(600)\ntell('pid', child)",
    "forks_and_waits": "child = os.fork()\nif not child:\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "    while True: time.sleep(600)\n"
    "tell('pid', child)\ntime.sleep(600)",
    "closes_its_pipes": "os.close(1), os.close(2); time.sleep(0.5); tell('went_on', 1)",
    "progresses": "for time_reached in ('N/A', '0', '500000', '-7', '1500000'):\n"
    "    line = f'frame=1\\nout_time_us={time_reached}\\nout_time=00:00\\nprogress=continue\\n'.encode()\n"
    "    os.write(progress, line[:12]); time.sleep(0.05); os.write(progress, line[12:]); time.sleep(0.05)",
    "reports_nonsense": "os.write(progress, b'out_time_us=' + b'9' * 10**6 + b'\\nout_time_us=\\n\\xff')\n"
    "os.write(progress, b'x' * 100000 + b'\\nout_time_us=2000000\\n')",
    # socket(AF_INET, SOCK_STREAM, 0), which has the number 359 for programs of 32 bits
    "calls_as_32_bits": """
import ctypes, mmap
code = bytes.fromhex('53 b867010000 bb02000000 b901000000 31d2 cd80 5b c3')
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(code)
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print('descriptor', call())""",
    "calls_as_x32": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(0x40000000 + 41, 2, 1, 0), ctypes.get_errno())""",
    "looks_around": """
import json, resource
def is_open(descriptor):
    try: return bool(os.fstat(descriptor))
    except OSError: return False
def outcome(attempt):
    try: return str(attempt() and 'done')
    except OSError as error: return type(error).__name__
def outcome_of_child(attempt):
    child = os.fork()
    if not child:
        try: attempt()
        except OSError as error: os._exit(error.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
import ctypes, socket
print(json.dumps({
    'arguments': sys.argv[1:],
    'folder': os.getcwd(),
    'environment': dict(os.environ),
    'niceness': os.nice(0),
    'umask': os.umask(0),
    'leads_its_session': os.getsid(0) == os.getpid() == os.getpgid(0),
    'descriptors': [number for number in range(256) if is_open(number)],
    'stdin': len(sys.stdin.read()),
    'io_class': ctypes.CDLL(None).syscall(252 if os.uname().machine == 'x86_64' else 31, 1, 0) >> 13,
    'limits': {name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name))
               for name in ('AS', 'CORE', 'CPU', 'FSIZE', 'NOFILE')},
    'blocked': len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    'socket': outcome(lambda: socket.socket()),
    'signal_to_parent': outcome(lambda: os.kill(os.getppid(), 0) or True),
    'signal_to_itself': outcome(lambda: os.kill(os.getpid(), 0) or True),
    'session_of_its_own': outcome_of_child(os.setsid),
    'group_of_its_own': outcome_of_child(lambda: os.setpgid(0, 0)),
    'limits_of_parent': outcome(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)),
    'files': {path: outcome(lambda: open(path)) for path in sys.argv[1:]},
    'write_outside': outcome(lambda: open('../outside', 'w')),
    'write_inside': outcome(lambda: open('inside', 'w')),
}))""",
}


def make(folder: Path, name: str) -> str:
    """Write the program into a folder, as an executable file; its path."""
    path = folder / name
    # the interpreter itself: what a virtual environment links to it is not for the program to see
    path.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{ANSWERS}\n{PROGRAMS[name]}\n")
    path.chmod(0o755)
    return str(path)
