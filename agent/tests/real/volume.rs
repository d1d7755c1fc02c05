//! Finding the volume of a holder among real mounts.

use crate::machine::Machine;
use borgherd_agent::volume::{VolumeError, resolve};
use std::fs;

#[test]
fn the_mounted_volume_of_the_holder_is_found() {
    let machine = Machine::new();
    let csi = machine.volume("uid-1", "pvc-1");
    machine.volume("uid-1", "pvc-2");
    machine.volume("uid-2", "pvc-1");
    let local = machine.folder("pods/uid-1/volumes/kubernetes.io~local-volume/local-pv");
    fs::create_dir(machine.folder("storage/local").join("mount")).unwrap();
    machine.bind(&machine.folder("storage/local"), &local);
    assert_eq!(resolve(&machine.pods(), "uid-1", "pvc-1").unwrap(), csi.canonicalize().unwrap());
    let found = resolve(&machine.pods(), "uid-1", "local-pv").unwrap();
    assert_eq!(found, local.canonicalize().unwrap(), "though it holds a folder of the name that CSI gives to mounts");
}

#[test]
fn a_folder_that_is_no_mount_point_is_never_taken_for_the_volume() {
    let machine = Machine::new();
    let folder = machine.folder("pods/uid-1/volumes/kubernetes.io~csi/pvc-1/mount");
    let error = resolve(&machine.pods(), "uid-1", "pvc-1").unwrap_err();
    assert!(matches!(&error, VolumeError::NotMounted(at) if at.ends_with("pvc-1")), "{error}");
    assert!(error.to_string().contains("is no mount point"), "{error}");

    // Neither a mount above nor one below makes it one.
    fs::create_dir(folder.join("below")).unwrap();
    Machine::mount_tmpfs(&folder.join("below"));
    machine.bind(&machine.path().join("pods/uid-1"), &machine.path().join("pods/uid-1"));
    assert!(matches!(resolve(&machine.pods(), "uid-1", "pvc-1"), Err(VolumeError::NotMounted(_))));

    machine.bind(&machine.folder("storage"), &folder);
    assert!(resolve(&machine.pods(), "uid-1", "pvc-1").is_ok(), "a bind mount of the same file system is one");
}

#[test]
fn what_is_not_there_or_twice_is_said() {
    let machine = Machine::new();
    machine.volume("uid-1", "pvc-1");
    for (holder, pv) in [("uid-1", "pvc-2"), ("uid-2", "pvc-1")] {
        let error = resolve(&machine.pods(), holder, pv).unwrap_err();
        assert!(
            matches!(&error, VolumeError::NotFound { folder, pv: named } if folder.ends_with(format!("{holder}/volumes")) && named == pv)
        );
    }
    machine.folder("pods/uid-1/volumes/kubernetes.io~other/pvc-1");
    let error = resolve(&machine.pods(), "uid-1", "pvc-1").unwrap_err();
    assert!(matches!(&error, VolumeError::Ambiguous { found, .. } if found.len() == 2), "{error}");
    let error = resolve(&machine.path().join("no-pods"), "uid-1", "pvc-1").unwrap_err();
    assert!(error.to_string().starts_with("cannot find folder"), "{error}");
}

#[test]
fn no_name_leads_out_of_the_pods() {
    let machine = Machine::new();
    machine.volume("uid-1", "pvc-1");
    for bad in ["", ".", "..", "/", "a/b", "../uid-1", "uid-1/", "/uid-1", "uid-1/."] {
        for error in [resolve(&machine.pods(), bad, "pvc-1").unwrap_err(), resolve(&machine.pods(), "uid-1", bad).unwrap_err()] {
            assert!(matches!(&error, VolumeError::Name { name, .. } if name == bad), "{bad:?}: {error}");
        }
    }
}
