"""make PATH: a tree with every awkward thing a file system can hold.   print PATH: one line for each entry, with all of it.

Two trees are the same if and only if what is printed of them is the same: type, mode, owners, size, time in nanoseconds,
which names share an inode, xattrs (ACLs and capabilities are xattrs), targets, holes, and SHA-256 of the contents.
"""
import hashlib
import os
import stat
import struct
import sys

ACL_HEAD = struct.pack("<I", 2)
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFFFFFF


def acl(*entries):
    return ACL_HEAD + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def write(path, content=b"content\n", mode=0o644, uid=0, gid=0):
    with open(path, "wb") as file:
        file.write(content)
    os.chown(path, uid, gid)
    os.chmod(path, mode)  # after chown, which takes setuid and setgid away


def make(root):
    os.mkdir(root)
    root = os.fsencode(root)
    at = lambda *names: os.path.join(root, *names)
    for mode in (0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644):
        write(at(b"mode-%04o" % mode), mode=mode)
    for owner in (1, 1000, 65533, 65534):
        write(at(b"owner-%d" % owner), uid=owner, gid=owner, mode=0o2750)
    for name, mode, gid in ((b"empty", 0o755, 0), (b"setgid", 0o2775, 4242), (b"sticky", 0o1777, 0), (b"closed", 0o000, 7)):
        os.mkdir(at(name))
        os.chown(at(name), 0, gid)
        os.chmod(at(name), mode)
    write(at(b"setgid", b"inside"), gid=4242)
    os.makedirs(at(*[b"deep-%02d" % i for i in range(40)]))
    for name, target in ((b"link", b"mode-0644"), (b"dangling", b"no/such/\xff"), (b"absolute", b"/etc/passwd"), (b"to-folder", b"setgid")):
        os.symlink(target, at(name))
    os.lchown(at(b"link"), 1000, 1001)
    write(at(b"hard-1"), b"shared\n")
    os.link(at(b"hard-1"), at(b"hard-2"))
    os.link(at(b"hard-1"), at(b"setgid", b"hard-3"))
    os.mkfifo(at(b"fifo"), 0o640)
    os.chown(at(b"fifo"), 5, 6)
    os.mknod(at(b"device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name in (b"new\nline", b"tab\tand space ", b"invalid-\xff\xfe\x80", b"-rf", b"*?[a]{b}\\", "\u00fc\u2603\U0001f41f".encode(), b"n" * 255):
        write(at(name), name)
    write(at(b"xattr"))
    os.setxattr(at(b"xattr"), b"user.text", b"value")
    os.setxattr(at(b"xattr"), b"user.binary", bytes(range(256)))
    os.setxattr(at(b"xattr"), b"user.empty", b"")
    os.setxattr(at(b"setgid"), b"user.folder", b"too")
    write(at(b"acl"), mode=0o640)
    os.setxattr(at(b"acl"), b"system.posix_acl_access", acl((USER_OBJ, 6, NOBODY), (USER, 4, 1234), (GROUP_OBJ, 4, NOBODY), (GROUP, 6, 4321), (MASK, 6, NOBODY), (OTHER, 0, NOBODY)))
    os.mkdir(at(b"acl-default"))
    os.setxattr(at(b"acl-default"), b"system.posix_acl_default", acl((USER_OBJ, 7, NOBODY), (USER, 7, 1234), (GROUP_OBJ, 5, NOBODY), (MASK, 7, NOBODY), (OTHER, 5, NOBODY)))
    write(at(b"capability"), mode=0o755)
    os.setxattr(at(b"capability"), b"security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    with open(at(b"sparse"), "wb") as file:
        file.truncate(1 << 30)
        for offset in (0, 123 << 20, (1 << 30) - 4096):
            file.seek(offset)
            file.write(b"data" * 1024)
    write(at(b"nothing"), b"")
    write(at(b"large"), hashlib.sha256(b"seed").digest() * (1 << 18))
    times(root)


def times(root):
    """Times to the nanosecond, the inmost first since each change touches its folder.

    They begin and end where Borg 1.4's do: it moves a time before 1970 to 1970 and one after 2038-01-17 to that day.
    """
    moments = (1, 1_000_000_001, 1_234_567_890_123_456_789, 2_147_310_846_999_999_999, 999_999_999_999_999_999)
    everything = [os.path.join(folder, name) for folder, folders, files in os.walk(root, topdown=False) for name in files + folders]
    for number, path in enumerate(everything + [root]):
        moment = moments[number % len(moments)]
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def entries(root):
    yield root
    for folder, folders, files in os.walk(root):
        for name in files + folders:
            yield os.path.join(folder, name)


def show(root):
    root = os.fsencode(root)
    first = {}
    for path in sorted(entries(root)):
        info = os.lstat(path)
        name = os.path.relpath(path, root)
        facts = [ascii(name), stat.filemode(info.st_mode), oct(info.st_mode), info.st_uid, info.st_gid, "mtime=%d" % info.st_mtime_ns]
        facts += ["%s=%s" % (key, os.getxattr(path, key, follow_symlinks=False).hex()) for key in sorted(os.listxattr(path, follow_symlinks=False))]
        if stat.S_ISLNK(info.st_mode):
            facts.append("target=%s" % ascii(os.readlink(path)))
        elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            facts.append("device=%d" % info.st_rdev)
        elif stat.S_ISREG(info.st_mode):
            same = first.setdefault(info.st_ino, name) if info.st_nlink > 1 else name
            facts += ["size=%d" % info.st_size, "inode-of=%s" % ascii(same), "sha256=%s" % sha256(path)]
            facts.append("sparse=%s" % (info.st_blocks * 512 < info.st_size // 2))
        print(*facts)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


{"make": make, "print": show}[sys.argv[1]](sys.argv[2])
