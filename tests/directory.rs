//! Public mounts in a directory of streams: a small one, which keeps what it is told.

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{MP3, Server, body_of_request, until};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_reload_takes_the_mounts_off_one_directory_and_puts_them_into_another() {
    let [(first, told_first), (second, told_second), (third, told_third)] = [(); 3].map(|()| directory());
    let listed = |ports: [u16; 2]| {
        let section = |port| format!("[[directory]]\nurl = \"http://127.0.0.1:{port}/yp\"\nserver = \"http://radio.example:8000\"\n");
        format!("{}{}{MP3}public = true\n", section(ports[0]), section(ports[1]))
    };
    let count =
        |told: &Mutex<Vec<String>>, action: &str| told.lock().expect("no panic").iter().filter(|form| form.contains(action)).count();
    let server = Server::start(&listed([first, second]));
    assert!(until(SECOND * 10, || [&told_first, &told_second].map(|told| count(told, "action=add")) == [1, 1]), "{}", server.log());
    server.rewrite("", &listed([second, third]));
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && !said.contains("new start"), "{said}");
    assert!(until(SECOND * 10, || count(&told_third, "action=add") == 1), "{}", server.log());
    assert!(until(SECOND * 10, || count(&told_first, "action=remove&sid=s-7") == 1), "{}", server.log());
    assert_eq!((count(&told_second, "action=add"), count(&told_second, "action=remove")), (1, 0), "it is told as before");
}

/// Answers everything with yes, and writes down the forms.
fn directory() -> (u16, Arc<Mutex<Vec<String>>>) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let told = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let mut stream = stream.expect("a connection");
            stream.set_read_timeout(Some(SECOND)).expect("set");
            let Some(form) = body_of_request(&mut stream) else { continue };
            book.lock().expect("no panic").push(form);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nYPResponse: 1\r\nYPMessage: fine\r\nSID: s-7\r\nTouchFreq: 6\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, told)
}

#[test]
fn a_public_mount_is_added_touched_and_removed_and_no_other_is_told() {
    let (port, told) = directory();
    let config = format!(
        "[[directory]]\nurl = \"http://127.0.0.1:{port}/yp\"\nserver = \"http://radio.example:8000\"\n{}public = true\nname = \"Radio & more\"\n{}",
        MP3,
        MP3.replace("/radio.mp3", "/private.mp3")
    );
    let mut server = Server::start(&config);
    let forms = || told.lock().expect("no panic").clone();
    let has = |part: &str| forms().iter().any(|form| form.contains(part));
    assert!(until(SECOND * 10, || has("action=add")), "{:?}", forms());
    let add = forms()[0].clone();
    for part in ["sn=Radio+%26+more", "listenurl=http%3A%2F%2Fradio.example%3A8000%2Fradio.mp3", "type=audio%2Fmpeg"] {
        assert!(add.replace("%20", "+").contains(part), "{part}: {add}");
    }
    assert_eq!(server.get("/admin/metadata?mount=/radio.mp3&mode=updinfo&song=Hello").status, 200);
    assert!(until(SECOND * 15, || has("action=touch&sid=s-7&st=Hello")), "{:?}", forms());
    server.signal("-TERM");
    server.wait(SECOND * 20);
    assert!(has("action=remove&sid=s-7"), "{:?}", forms());
    assert!(!has("private"), "{:?}", forms());
}
