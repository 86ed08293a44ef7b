"""Goes behind the fence and becomes the program: run as ``python -I -S launch.py``, never imported.

    launch.py PARENT CPU_SECONDS MEMORY_BYTES FILE_BYTES [READABLE ...] -- PROGRAM [ARGUMENT ...]

The program inherits all of it: the lowest priority, limits, death with the parent, and on Linux
a view of the file system in which there are only the system's libraries, the READABLE files
and the working folder, no sockets, no signals to others, and no way out of its group of
processes. It is a program of its own and not a ``preexec_fn`` because a process with threads
must not run Python between fork and exec. It imports little: every run pays for it.

What a kernel does not have is left out without a word, because the limits of the arguments that
ffmpeg gets are the first fence and stand without this one. Exit status: 127 for a program
that is not there, 126 for one that cannot be run.

Sources: the man pages prctl(2), ioprio_set(2), landlock(7), seccomp(2) and the kernel's
``include/uapi`` (landlock.h, seccomp.h, filter.h, audit.h).
"""

import ctypes
import os
import resource
import signal
import sys

NOT_FOUND, NOT_RUNNABLE = 127, 126  # as of a shell
LOWEST_PRIORITY = 19
DESCRIPTORS = 64

# On 64-bit machines: the name of their table of system calls (audit.h), and the numbers in it of
# ioprio_set, prlimit64, socket, setpgid and setsid.
NUMBERS = {
    "x86_64": (0xC000003E, 251, 302, 41, 109, 112),
    "aarch64": (0xC00000B7, 30, 261, 198, 154, 157),
    "riscv64": (0xC00000F3, 30, 261, 198, 154, 157),
}
IO_URING_SETUP = 425  # this and those of Landlock are the same on every machine
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE = (
    1 << bit for bit in (0, 1, 2, 3, 5, 8, 14)
)
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
KNOWN_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1}  # from version 3 on those up to TRUNCATE
SCOPES_SINCE, SCOPE_SIGNAL = 6, 1 << 1

SYSTEM = (
    *("/bin", "/lib", "/lib64", "/usr", "/gnu/store", "/nix/store", "/snap", "/home/linuxbrew/.linuxbrew"),
    *("/etc/ld.so.cache", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system"),
)


def main(parent: str, cpu_seconds: str, memory_bytes: str, file_bytes: str, *rest: str) -> None:
    """Fence this process in and become the program."""
    end = rest.index("--")
    readable, command = rest[:end], rest[end + 1 :]
    os.nice(LOWEST_PRIORITY)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        die_with(libc, int(parent))
        wait_for_idle_disk(libc)
        go_first_without_memory()
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        hide_files(libc, command[0], readable)
        forbid_calls(libc)
    limit("RLIMIT_CORE", 0)
    limit("RLIMIT_NOFILE", DESCRIPTORS)
    limit("RLIMIT_CPU", int(cpu_seconds))
    limit("RLIMIT_FSIZE", int(file_bytes))
    limit("RLIMIT_AS", int(memory_bytes))
    become(command)


def limit(name: str, value: int) -> None:
    """Set a limit for good, or keep a hard one that is lower. Not every system has or takes all of them."""
    try:
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))
    except (AttributeError, ValueError, OSError):
        pass


def die_with(libc: ctypes.CDLL, parent: int) -> None:
    """Be killed when the thread that started this process is gone, also when it is gone already."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the server has ended")


def numbers() -> tuple[int, ...] | None:
    """The NUMBERS of this machine, where the interpreter is of its kind."""
    return NUMBERS.get(os.uname().machine) if sys.maxsize > 2**32 else None


def wait_for_idle_disk(libc: ctypes.CDLL) -> None:
    """Read and write when nobody else does (IOPRIO_WHO_PROCESS, IOPRIO_CLASS_IDLE)."""
    if known := numbers():
        libc.syscall(known[1], 1, 0, 3 << 13)


def go_first_without_memory() -> None:
    """Be the one that the kernel ends when memory runs out, and not the server."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def hide_files(libc: ctypes.CDLL, program: str, readable: tuple[str, ...]) -> None:
    """Leave only the files that the program needs to be seen, and the working folder to write in.

    Where the kernel can, this also keeps signals from whoever is not behind the same fence.
    """
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    handled = KNOWN_RIGHTS.get(version, 2 * TRUNCATE - 1)
    attributes = handled.to_bytes(8, sys.byteorder)
    if version >= SCOPES_SINCE:  # landlock_ruleset_attr: files, network, scopes
        attributes += bytes(8) + SCOPE_SIGNAL.to_bytes(8, sys.byteorder)
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return

    def allow(path: str, rights: int) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        rights &= handled if os.path.isdir(path) else handled & ON_FILES
        rule = rights.to_bytes(8, sys.byteorder) + descriptor.to_bytes(4, sys.byteorder)
        libc.syscall(ADD_RULE, ruleset, 1, rule, 0)
        os.close(descriptor)

    for path in (*SYSTEM, *parts(program)):
        allow(path, EXECUTE | READ_FILE | READ_DIR)
    for path in readable:
        allow(path, READ_FILE)
    allow("/dev/null", READ_FILE | WRITE_FILE)
    allow(".", READ_FILE | READ_DIR | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE)
    libc.syscall(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def parts(program: str) -> list[str]:
    """The program, its interpreter if it is a script, and the folders where libraries of theirs would be."""
    programs = [program, *interpreter(program)]
    paths = [*programs, *map(os.path.realpath, programs)]
    return [*paths, *(os.path.join(os.path.dirname(os.path.dirname(path)), "lib") for path in paths)]


def interpreter(program: str) -> list[str]:
    try:
        with open(program, "rb") as file:
            line = file.readline(256)
    except OSError:
        return []
    return [os.fsdecode(word) for word in line[2:].split()[:1]] if line.startswith(b"#!") else []


class Instruction(ctypes.Structure):
    """``struct sock_filter``."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction)))


def forbid_calls(libc: ctypes.CDLL) -> None:
    """Let a filter of system calls answer EACCES to what no fenced program needs.

    That is to make a socket, to leave the group of processes in which it can be ended, and to change the
    limits of another process. A call by another table of numbers, as ``int 0x80`` makes on x86_64, ends the
    program: on a 64-bit machine no ffmpeg of 32 bits can be run.
    """
    known = numbers()
    if known is None:
        return
    table, _, prlimit, *refused = known
    refused.append(IO_URING_SETUP)  # which can make sockets as well
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ, BPF_JMP|JGE, BPF_RET
    count = len(refused)
    steps = (
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 1, 0, table),
        (answer, 0, 0, 0x80000000),  # SECCOMP_RET_KILL_PROCESS
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, count + 4, 0, 1 << 30),  # those of x32, another table of x86_64
        *((equal, count + 3 - at, 0, number) for at, number in enumerate(refused)),
        (equal, 0, 2, prlimit),
        (load, 0, 0, 16),  # the low half of seccomp_data.args[0]: whose limits, 0 for its own
        (equal, 0, 1, 0),
        (answer, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        (answer, 0, 0, 0x0005000D),  # SECCOMP_RET_ERRNO with EACCES
    )
    instructions = (Instruction * len(steps))(*(Instruction(*step) for step in steps))
    libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(Program(len(steps), instructions)), 0, 0)


def become(command: tuple[str, ...]) -> None:
    """Replace this process by the program."""
    try:
        os.execv(command[0], command)  # noqa: S606 - it has no shell, and wants none
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE)


if __name__ == "__main__":
    main(*sys.argv[1:])
