//! Secrets that systemd hands over (LoadCredential=): a real file in a real $CREDENTIALS_DIRECTORY, used by the real program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The body and signature of one request, which is answered.
fn receive(listener: &TcpListener) -> (Vec<u8>, String) {
    let (stream, _) = listener.accept().expect("somebody calls");
    let mut reader = BufReader::new(stream);
    let (mut length, mut signature) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a number"),
            "x-fim-signature" => signature = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(answer).expect("answered");
    (body, signature)
}

#[test]
fn a_secret_comes_from_the_folder_that_systemd_names() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    fs::create_dir(at("watched")).expect("made");
    fs::create_dir(at("credentials")).expect("made");
    let config = format!(
        "[state]\ndir = {:?}\n[[watch]]\npath = {:?}\n[[alert]]\ntype = \"webhook\"\nurl = \"http://{}/\"\n\
         secret_credential = \"hook\"\n",
        at("state"),
        at("watched"),
        listener.local_addr().expect("bound")
    );
    fs::write(at("fim.toml"), config).expect("written");
    let test = |credentials: bool| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fim"));
        command.arg("--config").arg(at("fim.toml")).args(["alert", "test"]);
        match credentials {
            true => command.env("CREDENTIALS_DIRECTORY", at("credentials")),
            false => command.env_remove("CREDENTIALS_DIRECTORY"),
        };
        command.output().expect("runs")
    };
    let said = |output: &Output| {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        String::from_utf8_lossy(&text).into_owned()
    };

    let without = test(false);
    assert!(!without.status.success() && said(&without).contains("LoadCredential"), "{}", said(&without));
    let missing = test(true);
    assert!(!missing.status.success() && said(&missing).contains("credentials/hook"), "{}", said(&missing));

    fs::write(at("credentials/hook"), "a secret of systemd\n").expect("written");
    // As systemd does: its access list lets nobody else in, and shows as a mode that would be too wide for a file of one's own.
    fs::set_permissions(at("credentials/hook"), fs::Permissions::from_mode(0o440)).expect("set");
    let receiver = std::thread::spawn(move || receive(&listener));
    let output = test(true);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("a secret of systemd"), "{}", said(&output));
    let (body, signature) = receiver.join().expect("received");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"a secret of systemd").expect("any length");
    mac.update(&body);
    let bytes = mac.finalize().into_bytes();
    let expected = bytes.iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(signature, expected, "signed with what stands in the file, without its line break");
}
