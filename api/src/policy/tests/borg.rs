//! Values that borg reads. The tables of what borg takes were read off borg 1.4.5 itself.

use super::{policy, wrong};

#[test]
fn compression() {
    for right in [
        "none",
        "lz4",
        "zstd",
        "zstd,1",
        "zstd,22",
        "zlib",
        "zlib,0",
        "zlib,9",
        "lzma",
        "lzma,9",
        "auto,zstd,3",
        "auto,none",
        "obfuscate,2,lz4",
        "obfuscate,110,zstd,3",
        "obfuscate,123,none",
        "obfuscate,250,lz4",
        "obfuscate,2,auto,zstd,6",
    ] {
        assert_eq!(policy(&[("compression", right)]).unwrap().compression.as_deref(), Some(right));
    }
    for bad in [
        "LZ4",
        "gzip",
        "zstd,0",
        "zstd,23",
        "zstd,",
        "zstd,x",
        "zstd,3,4",
        "zlib,10",
        "lzma,10",
        "lzma,-1",
        "auto",
        "auto,",
        "obfuscate",
        "obfuscate,2",
        "obfuscate,7,lz4",
        "obfuscate,124,none",
        "auto,obfuscate,2,lz4",
        "auto,zstd,3,4",
        "zstd, 3",
        "zstd,+3",
        "lz4;rm",
    ] {
        let told = wrong("compression", bad);
        assert!(told.contains("is no compression of borg's; it can be none, lz4, zstd"), "{bad}: {told}");
    }
}

#[test]
fn files_cache() {
    for right in ["ctime,size", "size,ctime", "mtime,size", "ctime,size,inode", "mtime,size,inode", "size", "ctime,rechunk", "disabled"] {
        assert_eq!(policy(&[("files-cache", right)]).unwrap().files_cache.as_deref(), Some(right));
    }
    for bad in
        ["ctime", "mtime", "inode", "ctime,mtime,size", "size,inode", "rechunk", "disabled,size", "none", "ctime, size", "ctime,,size"]
    {
        let told = wrong("files-cache", bad);
        assert!(told.contains("it can be ctime,size (the default), mtime,size"), "{bad}: {told}");
    }
}

#[test]
fn exclude() {
    let many = "x\n".repeat(1001);
    let most = "x\n".repeat(1000);
    let long = "x".repeat(4097);
    let longest = "ü".repeat(4096);
    for (written, count) in [
        ("*.tmp", 1),
        ("fm:*/x\nsh:**/y\nre:\\.o$\npp:a\npf:a/b", 5),
        ("# a comment\n\n", 0),
        ("a\r\nb", 2),
        ("x:y", 1),
        ("a-:b", 1),
        ("data: and more", 1),
        ("--not-an-option", 1),
        ("ä:b", 1),
        (&most, 1000),
        (&longest, 1),
    ] {
        assert_eq!(policy(&[("exclude", written)]).unwrap().exclude.len(), count, "{written:.20}");
    }
    for (written, words) in [
        ("*.tmp\nzz:x", "line 2 begins with 'zz:', which is no pattern style of borg's; there are fm:"),
        ("a\n\nFM:x", "line 3 begins with 'FM:'"),
        ("üß:x", "line 1 begins with 'üß:'"),
        ("re:*.tmp", "line 1 is no regular expression: it has a '*', '+' or '?' with nothing before it"),
        ("sh:", "line 1 has nothing after 'sh:'"),
        ("a\tb", "line 1 has a control character"),
        ("a\u{0}b", "line 1 has a control character"),
        (&many, "has 1001 patterns, more than 1000"),
        (&long, "line 1 is longer than 4096 characters"),
    ] {
        let told = wrong("exclude", written);
        assert!(told.contains(words), "{written:.20}: {told}");
    }
}
