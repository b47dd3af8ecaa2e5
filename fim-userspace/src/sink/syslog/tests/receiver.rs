//! Receivers that do what rsyslogd never would.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::core::event::Record;

fn records(range: std::ops::Range<usize>) -> Vec<Record> {
    let numbered = (1..).zip(events(range));
    numbered.map(|(seq, event)| Record { seq, id: format!("{seq:032x}"), event }).collect()
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Reads one message with its length before it (RFC 6587, 3.4.1).
async fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        match stream.read_u8().await.ok()? {
            b' ' => break,
            digit @ b'0'..=b'9' => length = length * 10 + usize::from(digit - b'0'),
            other => panic!("no length: {other}"),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

fn has(message: &[u8], record: &Record) -> bool {
    String::from_utf8_lossy(message).contains(&format!(" id=\"{}\"", record.id))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_in_octets() {
    let (listener, port) = listener().await;
    let mut list = records(0..3);
    list[1].event.set_path("/etc/ä€😀".as_bytes());
    let mut sink = sink(config(network(Transport::Tcp, port)));
    let receive = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(frame(&mut stream).await.expect("a message"));
        }
        (all, stream)
    };
    let (delivered, (all, _stream)) = tokio::join!(sink.deliver(&list), receive);
    assert_eq!(delivered.expect("delivered").count, 3);
    for (message, record) in all.iter().zip(&list) {
        assert_eq!(*message, sink.message(record), "whole and nothing more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_meanwhile_swallows_nothing() {
    let (listener, port) = listener().await;
    let list = records(0..2);
    let mut sink = sink(config(network(Transport::Tcp, port)));
    let (first, mut stream) = tokio::join!(sink.deliver(&list[..1]), async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        assert!(has(&frame(&mut stream).await.expect("a message"), &list[0]));
        stream
    });
    first.expect("delivered");
    stream.shutdown().await.expect("closed");
    drop(stream);
    // A write to it would still succeed.
    let (second, ()) = tokio::join!(sink.deliver(&list[1..]), async {
        let (mut stream, _) = listener.accept().await.expect("a new connection");
        assert!(has(&frame(&mut stream).await.expect("a message"), &list[0]), "what may not have been read");
        assert!(has(&frame(&mut stream).await.expect("a message"), &list[1]));
    });
    second.expect("delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_never_read_is_not_delivered() {
    let (listener, port) = listener().await;
    let list = records(0..40);
    let mut sink = sink(config(network(Transport::Tcp, port)));
    let (result, ()) = tokio::join!(sink.deliver(&list), async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut some = [0; 100];
        stream.read_exact(&mut some).await.expect("the beginning");
        // Closed with more unread: the kernel answers with a reset.
        drop(stream);
    });
    // The kernel may have acknowledged all of it before the end; then the end itself casts the doubt.
    let again = async {
        let (mut stream, _) = listener.accept().await.expect("a new connection");
        let mut seen = Vec::new();
        while seen.len() < 40 {
            seen.push(frame(&mut stream).await.expect("a message"));
        }
        assert!(seen.iter().zip(&list).all(|(message, record)| has(message, record)));
    };
    let more = records(40..41);
    let next = if result.is_ok() { &more[..] } else { &list[..] };
    let both = async { tokio::join!(async { sink.deliver(next).await.expect("delivered") }, again) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("all of it came again");
}

/// A sink to which an orderly end says that all was dealt with: no clock decides.
fn trusting(port: u16) -> Syslog {
    Syslog { doubt: Duration::ZERO, ..sink(config(network(Transport::Tcp, port))) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_servers_never_read_comes_to_the_third() {
    let (listener, port) = listener().await;
    let list = records(0..60);
    let mut sink = trusting(port);
    for part in [&list[..20], &list[20..40]] {
        let (delivered, accepted) = tokio::join!(sink.deliver(part), listener.accept());
        delivered.expect("the kernel took it");
        // Unread bytes make this a reset.
        drop(accepted.expect("accepted"));
    }
    let read = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        for record in &list {
            let message = frame(&mut stream).await.expect("a message");
            assert!(has(&message, record), "{} is missing", record.seq);
        }
    };
    let both = async { tokio::join!(sink.deliver(&list[40..]), read) };
    let (delivered, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("all of it");
    delivered.expect("delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_an_orderly_end_is_not_repeated() {
    let (listener, port) = listener().await;
    let list = records(0..2);
    let mut sink = trusting(port);
    for record in &list {
        let (delivered, stream) = tokio::join!(sink.deliver(std::slice::from_ref(record)), async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            assert!(has(&frame(&mut stream).await.expect("a message"), record));
            stream
        });
        delivered.expect("delivered");
        // Nothing is unread: this is an orderly end.
        drop(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_read_holds_the_batch_up() {
    let (listener, port) = listener().await;
    let mut list = records(0..200);
    for record in &mut list {
        record.event.message = Some("x".repeat(100_000));
    }
    let mut sink = sink(config(network(Transport::Tcp, port)));
    let sending = tokio::spawn(async move { sink.deliver(&list).await.map(|d| d.count) });
    let (mut stream, _) = listener.accept().await.expect("accepted");
    let mut seen = 0;
    while seen < 200 {
        assert!(!sending.is_finished(), "{seen} of 200 were read");
        frame(&mut stream).await.expect("a message");
        // The last messages fit into the kernels' buffers.
        seen += 1;
        if seen == 100 {
            break;
        }
    }
    while seen < 200 {
        frame(&mut stream).await.expect("a message");
        seen += 1;
    }
    assert_eq!(sending.await.expect("no panic").expect("delivered"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_nothing_is_delivered() {
    let (listener, port) = listener().await;
    drop(listener);
    let list = records(0..1);
    let error =
        sink(config(network(Transport::Tcp, port))).deliver(&list).await.expect_err("nobody").to_string();
    assert!(error.contains("cannot connect"), "{error}");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = socket.local_addr().expect("bound").port();
    drop(socket);
    let error =
        sink(config(network(Transport::Udp, port))).deliver(&list).await.expect_err("nobody").to_string();
    assert!(error.contains("nobody receives"), "{error}");
    let dir = tempfile::tempdir().expect("temporary folder");
    let gone = SyslogAddress::Unix(dir.path().join("log"));
    let error = sink(config(gone)).deliver(&list).await.expect_err("nobody").to_string();
    assert!(error.contains("nobody receives at") && error.contains("running?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_cut_to_what_every_receiver_takes() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = socket.local_addr().expect("bound").port();
    let mut list = records(0..1);
    list[0].event.set_path("/ä".repeat(2_000).as_bytes());
    let mut sink = sink(config(network(Transport::Udp, port)));
    sink.deliver(&list).await.expect("sent");
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).await.expect("a datagram");
    let message = std::str::from_utf8(&buffer[..length]).expect("whole characters");
    assert!(
        length <= UDP_LIMIT && message.contains(" cut=\"yes\"") && message.ends_with("… (cut)"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tls_server_is_given_up() {
    let authority = super::certificates::Authority::new();
    let (listener, port) = listener().await;
    let tls = TlsFiles { ca: Some(authority.file()), client: None };
    let mut sink = sink(SyslogConfig { tls, ..config(network(Transport::Tls, port)) });
    let list = records(0..1);
    let (result, ()) = tokio::join!(sink.deliver(&list), async {
        let (stream, _) = listener.accept().await.expect("accepted");
        drop(stream);
    });
    let error = result.expect_err("no handshake").to_string();
    assert!(error.contains("no TLS connection"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("ca.pem");
    let said = |file: &Path| {
        let tls = TlsFiles { ca: Some(file.into()), client: None };
        let config = SyslogConfig { tls, ..config(network(Transport::Tls, 1)) };
        Syslog::new("x", Severity::Low, config).map(drop).expect_err("unusable")
    };
    assert!(said(&file).contains("ca.pem"), "{}", said(&file));
    std::fs::write(&file, "no certificate").expect("written");
    assert!(said(&file).contains("holds no certificate"), "{}", said(&file));
}
