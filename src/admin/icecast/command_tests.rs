//! What panels are told, who may ask, and what becomes of an order.

use crate::access::Password;
use crate::admin::Settings;
use crate::admin::testing::Town;

/// `admin:s3cret` and `admin:wrong`.
const RIGHT: &str = "Authorization: Basic YWRtaW46czNjcmV0\r\n";
const WRONG: &str = "Authorization: Basic YWRtaW46d3Jvbmc=\r\n";

fn guarded(paths: &[&str]) -> Town {
    Town::of(Settings { password: Some(Password::plain("s3cret").expect("a password")), ..Settings::default() }, paths)
}

/// What follows the XML declaration.
fn xml(town: &Town, path: &str) -> String {
    let (status, head, body) = town.ask("GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    assert!(head.contains("content-type: text/xml; charset=utf-8"), "{head}");
    body.strip_prefix("<?xml version=\"1.0\"?>\n").unwrap_or_else(|| panic!("{body}")).to_owned()
}

fn answered(message: &str, code: u8) -> String {
    format!("<iceresponse><message>{message}</message><return>{code}</return></iceresponse>\n")
}

#[test]
fn an_error_is_icecasts_in_the_order_of_its_looking() {
    let town = Town::with(&["/a.mp3", "/b.mp3", "/c.ogg"]);
    town.on_air("/a.mp3", "audio/mpeg");
    town.on_air("/c.ogg", "application/ogg");
    for (path, why) in [
        ("nosuch", "Unrecognised command"),
        ("nosuch?mount=/a.mp3", "Unrecognised command"),
        ("listclients", "Unknown admin request"),
        ("listclients?mount=/no.mp3", "Source does not exist"),
        ("listclients?mount=/b.mp3", "Source is not available"),
        ("listmounts?mount=/a.mp3", "Mount request unknown"),
        ("metadata?mount=/a.mp3", "Missing parameter"),
        ("killclient?mount=/a.mp3", "Missing parameter"),
        ("fallbacks?mount=/a.mp3", "Missing parameter"),
        ("manageauth?mount=/a.mp3", "missing parameter"),
        ("moveclients?mount=/a.mp3&destination=/no.mp3", "No such destination"),
        ("moveclients?mount=/a.mp3&destination=/a.mp3", "supplied mountpoints are identical"),
        ("moveclients?mount=/a.mp3&destination=/b.mp3", "Destination not running"),
        ("moveclients?mount=/a.mp3&destination=/c.ogg", "a player of audio/mpeg cannot go on with application/ogg"),
    ] {
        let (status, head, body) = town.ask("GET", &format!("/admin/{path}"), "");
        let want = format!("<html><head><title>Error 400</title></head><body><b>400 - {why}</b></body></html>\r\n");
        assert_eq!((status, body), (400, want), "{path}");
        assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    }
}

#[test]
fn a_method_that_is_not_taken_is_refused_with_those_that_are_and_a_sentence() {
    let town = Town::with(&["/a.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    for (method, path, allowed) in [
        ("HEAD", "/admin/killsource?mount=/a.mp3", "GET, POST"),
        ("PUT", "/admin/stats", "GET, HEAD, POST"),
        ("PUT", "/admin.cgi?pass=x", "GET, POST"),
        ("HEAD", "/admin.cgi?pass=x", "GET, POST"),
        ("POST", "/7.html", "GET, HEAD, OPTIONS"),
    ] {
        let (status, head, body) = town.ask(method, path, "");
        assert!(status == 405 && head.contains(&format!("allow: {}", allowed.to_ascii_lowercase())), "{method} {path}: {status} {head}");
        assert!(method == "HEAD" || body.starts_with("This can be"), "{method} {path}: {body:?}");
    }
}

#[test]
fn a_fallback_is_set_as_icecast_sets_it_and_no_circle_is_closed() {
    let town = Town::with(&["/a.mp3", "/b.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    town.on_air("/b.mp3", "audio/mpeg");
    let set = |mount: &str, to: &str| town.get(&format!("/admin/fallbacks?mount={mount}&fallback={to}"));
    let (status, body) = set("/a.mp3", "/b.mp3");
    assert!(status == 200 && body.contains("<p>Fallback configured</p>"), "{body}");
    let fallback = town.registry().find("/a.mp3").expect("a mount").handle.settings.fallback.mount().cloned();
    assert_eq!(fallback.as_ref().map(ToString::to_string).as_deref(), Some("/b.mp3"));
    assert!(town.get("/admin/listmounts").1.contains("<source mount=\"/a.mp3\"><fallback>/b.mp3</fallback>"));
    let (status, body) = set("/b.mp3", "/a.mp3");
    assert!(status == 400 && body.contains("leads back to the mount"), "{body}");
    assert_eq!((set("/b.mp3", "nowhere").0, set("/b.mp3", "/b.mp3").0), (400, 200), "itself is no circle, but nothing");
}

#[test]
fn listeners_are_listed_kicked_and_moved() {
    let town = Town::with(&["/a.mp3", "/b.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    town.on_air("/b.mp3", "audio/mpeg");
    let _ends = town.listen("/a.mp3", 700); // more than one part on each of two shards
    let listed = xml(&town, "/admin/listclients?mount=/a.mp3");
    assert!(listed.starts_with("<icestats><source mount=\"/a.mp3\"><Listeners>700</Listeners><listener>"), "{listed}");
    assert_eq!(listed.matches("<listener><IP>unix</IP><UserAgent>test/1</UserAgent><Connected>0</Connected><ID>").count(), 700);
    assert!(listed.contains("<ID>7</ID><lag>0</lag></listener>"));
    let kill = |id: &str| xml(&town, &format!("/admin/killclient?mount=/a.mp3&id={id}"));
    assert_eq!(kill("7"), answered("Client 7 removed", 1));
    assert_eq!(kill("7"), answered("Client 7 not found", 0));
    assert_eq!(kill("x"), answered("Client 0 not found", 0));
    assert_eq!(xml(&town, "/admin/moveclients?mount=/a.mp3&destination=/b.mp3"), answered("Clients moved from /a.mp3 to /b.mp3", 1));
    let listeners = |path| town.registry().find(path).expect("a mount").handle.listeners();
    town.until(|| (listeners("/a.mp3"), listeners("/b.mp3")) == (0, 699));
    assert!(xml(&town, "/admin/listclients?mount=/b.mp3").contains("<ID>700</ID>"), "each keeps its number");
    let choice = xml(&town, "/admin/moveclients?mount=/b.mp3");
    assert!(
        choice.starts_with("<icestats><current_source>/b.mp3</current_source><source mount=\"/a.mp3\"><fallback></fallback>"),
        "{choice}"
    );
    let mounts = xml(&town, "/admin/listmounts");
    let second = "<source mount=\"/b.mp3\"><fallback></fallback><listeners>699</listeners><Connected>";
    assert!(mounts.contains(second) && mounts.contains("<content-type>audio/mpeg</content-type></source></icestats>"), "{mounts}");
}

#[test]
fn statistics_have_icecasts_names_and_order() {
    let town = Town::with(&["/a.mp3", "/hidden.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    town.on_air("/hidden.mp3", "audio/mpeg");
    let all = xml(&town, "/admin/stats");
    assert_eq!(all.matches("<source mount=").count(), 2, "an operator is told of hidden ones, too");
    let one = xml(&town, "/admin/stats?mount=/a.mp3");
    assert_eq!(one.matches("<source mount=").count(), 1);
    assert_eq!(xml(&town, "/admin/stats.xml").matches("<source mount=").count(), 2);
    let names = one.split('<').filter(|tag| !tag.starts_with('/')).filter_map(|tag| tag.split(['>', ' ']).next());
    let mut last = "";
    for name in names {
        let begins = ["", "icestats", "source"].contains(&name);
        assert!(begins || last < name, "{name} after {last}");
        last = if begins { "" } else { name };
    }
    for part in [
        "<admin>icemaster@localhost</admin>",
        "<location>Earth</location>",
        "<sources>2</sources>",
        "<max_listeners>unlimited</max_listeners>",
        "<server_name>The \"A\" &amp; &lt;b&gt;</server_name>",
        "<total_bytes_read>20000</total_bytes_read>",
    ] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let (status, _, list) = town.ask("GET", "/admin/streamlist.txt", "");
    assert_eq!((status, list.as_str()), (200, "/a.mp3\r\n"));
    let public = xml(&town, "/admin/publicstats");
    assert!(!public.contains("hidden") && !public.contains("total_bytes") && public.contains("<listeners>0</listeners>"), "{public}");
}

#[test]
fn a_title_is_set_by_whoever_may_and_told_everywhere() {
    let town = Town::with(&["/a.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    let update = |query: &str| xml(&town, &format!("/admin/metadata?mount=/a.mp3&{query}"));
    assert_eq!(update("mode=other&song=X"), answered("No such action", 0));
    assert_eq!(update("mode=updinfo&song=Gr%FC%DFe"), answered("Metadata update successful", 1));
    let status = || town.get("/status-json.xsl").1;
    assert!(status().contains("\"title\":\"Grüße\"") && !status().contains("\"artist\""), "{}", status());
    assert!(xml(&town, "/admin/stats").contains("<title>Gr&#xFC;&#xDF;e</title>"));
    update("mode=updinfo&artist=A&title=B");
    assert!(status().contains("{\"artist\":\"A\",\"bitrate\":80,\"genre\""), "in the order of their names: {}", status());
    update("mode=updinfo");
    assert!(status().contains("\"title\":\"B\""), "nothing said, nothing changed");
    let (status, head, body) = town.ask("HEAD", "/admin/metadata?mount=/a.mp3&mode=updinfo&song=X", "");
    assert_eq!((status, body.as_str()), (405, ""), "{head}");
    assert_eq!(town.registry().find("/a.mp3").expect("a mount").handle.metadata().title.as_deref(), Some("B"));
}

#[test]
fn a_source_that_is_killed_is_down() {
    let town = Town::with(&["/a.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    let _ends = town.listen("/a.mp3", 1);
    assert_eq!(xml(&town, "/admin/killsource?mount=/a.mp3"), answered("Source Removed", 1));
    town.until(|| !town.registry().find("/a.mp3").expect("a mount").handle.status().up);
    assert!(xml(&town, "/admin/listclients?mount=/a.mp3").contains("<Listeners>1</Listeners>"), "who waits for the next is still listed");
}

#[test]
fn the_password_makes_an_operator_and_a_wrong_one_nobody() {
    let town = guarded(&["/a.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    let _ends = town.listen("/a.mp3", 2);
    // A proxy's field makes a connection from this machine one from anywhere.
    let elsewhere = "X-Forwarded-For: 192.0.2.1\r\n";
    let ask = |path: &str, fields: String| town.ask("GET", path, &fields);
    for path in ["/admin/stats", "/admin/listclients?mount=/a.mp3", "/admin/", "/api/v1/mounts"] {
        assert_eq!(ask(path, format!("{elsewhere}{RIGHT}")).0, 200, "{path}");
    }
    let (status, head, _) = ask("/admin/stats", elsewhere.to_owned());
    assert!(status == 401 && head.contains("www-authenticate: basic realm=\"flumen\""), "{status} {head}");
    let (status, _, body) = ask("/api/v1/mounts/a.mp3/listeners", format!("{elsewhere}{RIGHT}"));
    assert!(status == 200 && body.contains("test/1"), "an operator is told who listens: {body}");
    for path in ["/admin/stats", "/api/v1/mounts"] {
        let (status, head, _) = ask(path, WRONG.to_owned());
        assert!(status == 401 && head.contains("www-authenticate: basic realm=\"flumen\""), "{path}: {status} {head}");
    }
    let foreign = format!("{RIGHT}Origin: http://evil.example\r\n");
    for fields in [foreign, format!("{RIGHT}Referer: http://evil.example/\r\n"), format!("{RIGHT}Sec-Fetch-Site: cross-site\r\n")] {
        let (status, _, body) = ask("/admin/killsource?mount=/a.mp3", fields);
        assert!(status == 403 && body.contains("page from elsewhere"), "{status} {body}");
    }
    let (status, _, _) = town.ask("DELETE", "/api/v1/mounts/a.mp3/listeners/1", &format!("{elsewhere}{RIGHT}"));
    assert_eq!(status, 204);
    let (status, _, _) = town.ask("DELETE", "/api/v1/mounts/a.mp3/listeners/2", elsewhere);
    assert_eq!(status, 401);
    for _ in 0..5 {
        ask("/admin/stats", WRONG.to_owned());
    }
    let (status, head, _) = ask("/admin/stats", RIGHT.to_owned());
    assert!(status == 429 && head.contains("retry-after: "), "{status} {head}");
    assert_eq!(ask("/status-json.xsl", String::new()).0, 200, "everybody else goes on");
}

#[test]
fn without_a_password_there_are_operators_on_this_machine_only() {
    let town = Town::with(&["/a.mp3"]);
    town.on_air("/a.mp3", "audio/mpeg");
    assert_eq!(town.ask("GET", "/admin/stats", "").0, 200);
    for fields in ["X-Forwarded-For: 192.0.2.1\r\n".to_owned(), format!("X-Forwarded-For: 192.0.2.1\r\n{RIGHT}")] {
        let (status, head, body) = town.ask("GET", "/admin/stats", &fields);
        assert!(status == 403 && !head.contains("www-authenticate"), "no password would help: {status} {head} {body}");
    }
    let (status, _, body) = town.ask("GET", "/admin/killsource?mount=/a.mp3", "User-Agent: Mozilla/5.0\r\n");
    assert!(status == 403 && body.contains("browser"), "{body}");
    assert_eq!(town.ask("GET", "/admin/stats", "User-Agent: Mozilla/5.0\r\n").0, 200, "to look is allowed");
}

#[test]
fn people_find_pages_where_icecast_has_them() {
    let town = Town::with(&["/a+b.mp3", "/c.mp3"]);
    town.on_air("/a+b.mp3", "audio/mpeg");
    let _ends = town.listen("/a+b.mp3", 1);
    for path in ["/status.xsl", "/server_version.xsl", "/admin"] {
        let (status, head, _) = town.ask("GET", path, "");
        assert!(status == 307 && head.contains("location: /"), "{path}: {head}");
    }
    for (path, parts) in [
        ("/admin/", &["/a+b.mp3", "listclients.xsl?mount=%2Fa%2Bb%2Emp3", "audio/mpeg"] as &[_]),
        ("/admin/stats.xsl", &["Mounts on air"]),
        ("/admin/listmounts.xsl", &["Mounts on air"]),
        ("/admin/listclients.xsl?mount=/a%2Bb.mp3", &["test/1", "killclient.xsl?mount=%2Fa%2Bb%2Emp3&amp;id=1"]),
        ("/admin/updatemetadata.xsl?mount=/a%2Bb.mp3", &["name=\"song\"", "value=\"/a+b.mp3\""]),
        ("/admin/metadata.xsl?mount=/a%2Bb.mp3&mode=updinfo&song=%3Cb%3E", &["Message: Metadata update successful", "Return Code: 1"]),
        ("/admin/killclient.xsl?mount=/a%2Bb.mp3&id=9", &["Message: Client 9 not found", "Return Code: 0"]),
    ] {
        let (status, head, body) = town.ask("GET", path, "");
        assert!(status == 200 && head.contains("content-security-policy: default-src 'none'"), "{path}: {status} {head}");
        for part in parts {
            assert!(body.contains(part), "{path} lacks {part}: {body}");
        }
        assert!(!body.contains("<b>"), "{body}");
    }
}
