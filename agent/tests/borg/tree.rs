//! A tree with every awkward thing, and what there is to know about a tree, to compare two.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes the tree in `folder`.
pub(crate) fn make(folder: &Path) {
    let script = r#"
        set -eu
        umask 022
        mkdir plain setgid empty sticky
        printf hello > plain/file; touch -d '2001-02-03 04:05:06.789012345' plain/file
        printf x > "plain/new
line"; printf y > "$(printf 'plain/not-utf8-\377\200')"
        ln plain/file plain/hard; ln plain/file empty-link
        ln -s /nowhere/at/all dangling; ln -s plain/file symlink
        mkfifo -m 640 fifo
        mknod null c 1 3
        truncate -s 1G sparse; printf end | dd of=sparse bs=1 seek=536870912 conv=notrunc status=none
        for owner in 0 1 999 65534; do
            printf $owner > owned-$owner; chown $owner:$owner owned-$owner; chmod 0$((owner % 7 + 1))40 owned-$owner
        done
        printf s > setuid; chown 1000:1000 setuid; chmod 6755 setuid
        chown 1000:4242 setgid; chmod 2775 setgid; chmod 1777 sticky
        printf 0 > mode-0; chmod 0 mode-0
        printf x > attributed; setfattr -n user.color -v red attributed; setfattr -n user.binary -v 0sAAH/ attributed
        setfacl -m u:1234:rw,g:4321:r attributed; setfacl -d -m u:77:rwx setgid; setfacl -m u:77:rwx setgid
        chattr +d attributed
        cp /bin/true capable; setcap cap_net_raw+ep capable
        printf e > "$(printf 'x%.0s' $(seq 255))"
        mkdir -p deep/er/and/deeper; printf d > deep/er/and/deeper/file
        touch -d '1999-12-31 23:59:59.999999999' deep empty
        touch -h -d '2011-11-11 11:11:11.111111111' symlink
        chmod 2750 .; chown 1000:1000 .; touch -d '2020-02-02 20:20:20.202020202' .
    "#;
    let done = Command::new("sh").args(["-c", script]).current_dir(folder).status();
    assert!(done.unwrap().success(), "the tree could not be made: apt-get install acl attr e2fsprogs libcap2-bin");
}

/// All there is to know: a line for each path, its attributes, its content, and which paths are one file.
pub(crate) fn describe(folder: &Path) -> Vec<String> {
    let mut all = records(folder, "find . -printf '%y %m %U:%G %T@ %l %P\\0'");
    all.extend(records(folder, "find . -type f -printf '%s %n %P\\0'"));
    all.extend(records(folder, "find . -type f -print0 | xargs -0 sha256sum -z"));
    all.extend(records(folder, "find . -type c -exec stat --printf '%t:%T %n\\0' {} +"));
    let flags = records(folder, "lsattr attributed");
    assert!(flags.iter().all(|line| line.contains('d')) && flags.len() == 1, "{flags:?}");
    all.extend(flags);
    all.extend(attributes(folder));
    all.extend(links(folder));
    all.sort();
    all
}

/// Disk blocks of `file`, of 512 bytes each.
pub(crate) fn blocks(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(file).unwrap().blocks()
}

fn records(folder: &Path, script: &str) -> Vec<String> {
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout.split(|&byte| byte == 0).filter(|record| !record.is_empty()).map(|record| record.escape_ascii().to_string()).collect()
}

/// Extended attributes: ACLs and capabilities are among them. A paragraph a file.
fn attributes(folder: &Path) -> Vec<String> {
    let output = Command::new("getfattr").args(["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."]).current_dir(folder).output().unwrap();
    let text = output.stdout.escape_ascii().to_string();
    let found: Vec<String> = text.split("\\n\\n").map(str::to_owned).collect();
    for name in ["user.color", "posix_acl_access", "posix_acl_default", "security.capability"] {
        assert!(found.iter().any(|paragraph| paragraph.contains(name)), "{name} is nowhere in {}", folder.display());
    }
    found
}

/// For each file with several names: the names.
fn links(folder: &Path) -> Vec<String> {
    let script = "find . -type f -links +1 -printf '%i %P\\n' | sort | awk '{ names[$1] = names[$1] \" \" $2 } END { for (i in names) printf \"links%s%c\", names[i], 0 }'";
    let found = records(folder, script);
    assert_eq!(found.len(), 1, "{found:?}");
    found
}
