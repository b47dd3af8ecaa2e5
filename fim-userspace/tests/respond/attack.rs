//! Somebody else is in the tree at the same moment.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};

use fim::core::plan::Step;
use fim::respond::ResponseError;
use rustix::fs::FileType as Kind;

use crate::cases::{alter, make_node};
use crate::world::{World, rel};

pub fn a_swapped_parent_leaves_the_outside_alone(world: &World) {
    fs::create_dir(world.tree.join("dir")).expect("made");
    fs::write(world.tree.join("dir/file"), "approved").expect("written");
    fs::write(world.outside.join("file"), "secret").expect("written");
    fs::set_permissions(world.outside.join("file"), fs::Permissions::from_mode(0o604)).expect("set");
    let approved = world.approve()[&rel("dir/file")].clone();
    fs::write(world.tree.join("dir/file"), "altered").expect("written");
    let expected = world.found(&rel("dir/file")).expect("there");

    fs::rename(world.tree.join("dir"), world.tree.join("moved")).expect("moved");
    symlink(&world.outside, world.tree.join("dir")).expect("made");
    let path = rel("dir/file");
    let steps = [
        Step::Replace {
            path: path.clone(),
            approved: approved.clone(),
            expected: Some(expected.clone()),
        },
        Step::Replace {
            path: path.clone(),
            approved: approved.clone(),
            expected: None,
        },
        Step::Quarantine {
            path: path.clone(),
            expected: expected.clone(),
        },
        Step::Delete {
            path: path.clone(),
            expected: expected.clone(),
        },
        Step::Reattribute {
            path,
            approved,
            expected,
        },
    ];
    for step in steps {
        let error = world.carry_out(step.clone()).expect_err("the parent is a link");
        assert!(
            matches!(error, ResponseError::ParentMissing { .. }),
            "{error} in {step:?}"
        );
    }
    let names: Vec<_> = fs::read_dir(&world.outside).expect("readable").collect();
    assert_eq!(names.len(), 1);
    assert_eq!(fs::read(world.outside.join("file")).expect("readable"), b"secret");
    let mode = fs::metadata(world.outside.join("file"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o604);
}

pub fn another_file_meanwhile_is_not_lost(world: &World) {
    let path = world.tree.join("file");
    fs::write(&path, "approved").expect("written");
    let approved = world.approve()[&rel("file")].clone();
    fs::write(&path, "altered").expect("written");
    let expected = world.found(&rel("file")).expect("there");
    fs::write(world.tree.join("new"), "another").expect("written");
    fs::rename(world.tree.join("new"), &path).expect("renamed");
    let path = rel("file");
    let steps = [
        Step::Replace {
            path: path.clone(),
            approved: approved.clone(),
            expected: Some(expected.clone()),
        },
        Step::Replace {
            path: path.clone(),
            approved: approved.clone(),
            expected: None,
        },
        Step::Quarantine {
            path: path.clone(),
            expected: expected.clone(),
        },
        Step::Reattribute {
            path,
            approved,
            expected,
        },
    ];
    for step in steps {
        let error = world.carry_out(step.clone()).expect_err("it is another file");
        assert!(
            matches!(error, ResponseError::Moved { .. }),
            "{error} in {step:?}"
        );
        assert_eq!(
            fs::read(world.tree.join("file")).expect("there"),
            b"another",
            "{step:?}"
        );
    }
}

pub fn a_fifo_never_blocks(world: &World) {
    fs::write(world.tree.join("file"), "approved").expect("written");
    let baseline = world.approve();
    let was = world.found(&rel("file")).expect("there");
    fs::remove_file(world.tree.join("file")).expect("removed");
    make_node(world, "file", Kind::Fifo, 0);
    // The plan was made for the regular file; the FIFO has come since.
    let step = Step::Quarantine {
        path: rel("file"),
        expected: was,
    };
    assert!(matches!(world.carry_out(step), Err(ResponseError::Moved { .. })));
    let evidence = world.reconcile(&baseline);
    world.assert_equals(&baseline);
    assert_eq!(evidence.len(), 1);
}

pub fn an_old_writer_reaches_only_evidence(world: &World) {
    let path = world.tree.join("file");
    fs::write(&path, "approved").expect("written");
    let baseline = world.approve();
    let mut writer = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .expect("opens");
    writer.write_all(b"altered!").expect("written");
    let evidence = world.reconcile(&baseline);
    world.assert_evidence(&evidence, "file", b"altered!");
    writer.write_all(b" and more").expect("still open");
    assert_eq!(fs::read(&path).expect("there"), b"approved");
    world.assert_equals(&baseline);
    let mut held = String::new();
    writer.seek(SeekFrom::Start(0)).expect("seeks");
    writer.read_to_string(&mut held).expect("readable");
    assert_eq!(
        held, "altered! and more",
        "the altered file itself lives on for its writer only"
    );
}

pub fn no_privileges_for_altered_content(world: &World) {
    let path = world.tree.join("tool");
    fs::write(&path, "trusted").expect("written");
    alter(world, "tool", |e| e.mode = 0o4755);
    let baseline = world.approve();
    let approved = baseline[&rel("tool")].clone();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("set");
    let expected = world.found(&rel("tool")).expect("there");
    // Between the look and the response the content changes, on the same inode.
    fs::write(&path, "forged!").expect("written");
    let step = Step::Reattribute {
        path: rel("tool"),
        approved,
        expected,
    };
    let outcome = world.carry_out(step).expect("the whole file is replaced");
    world.assert_evidence(&outcome.evidence, "tool", b"forged!");
    world.assert_equals(&baseline);

    fs::write(world.tree.join("plain"), "plain").expect("written");
    let baseline = world.approve();
    alter(world, "plain", |e| e.mode = 0o666);
    let expected = world.found(&rel("plain")).expect("there");
    fs::write(world.tree.join("plain"), "forged").expect("written");
    let step = Step::Reattribute {
        path: rel("plain"),
        approved: baseline[&rel("plain")].clone(),
        expected,
    };
    assert!(matches!(world.carry_out(step), Err(ResponseError::Moved { .. })));
    world.reconcile(&baseline);
    world.assert_equals(&baseline);
}
