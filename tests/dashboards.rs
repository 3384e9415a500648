//! The dashboards against the catalogue and against a real Prometheus: what they ask for exists, and is asked for as what it is.
//! The alerts against promtool and the runbook.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flumen::metrics::{CATALOGUE, Kind, PROCESS_METRICS};
use serde_json::Value;
use support::{MP3, Server, free_port, until};

fn dashboards() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let dashboards: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("readable");
            (name.clone(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect();
    assert!(!dashboards.is_empty());
    dashboards
}

/// Calls `see` for every object anywhere in the document.
fn visit<'a>(value: &'a Value, see: &mut impl FnMut(&'a serde_json::Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Object(fields) => {
            see(fields);
            fields.values().for_each(|field| visit(field, see));
        }
        _ => {}
    }
}

/// Every text that is a query: of panels, annotations and variables.
fn queries(dashboard: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    visit(dashboard, &mut |fields| found.extend(["expr", "query"].iter().filter_map(|name| fields.get(*name)?.as_str())));
    found
}

/// The names of metrics in a query, as written.
fn names(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with("flumen_") || word.starts_with("process_"))
}

#[test]
fn every_metric_that_a_dashboard_asks_for_exists_and_is_used_as_what_it_is() {
    let kinds: BTreeMap<_, _> = CATALOGUE.iter().map(|metric| (metric.name, metric.kind)).collect();
    for (file, dashboard) in dashboards() {
        let queries = queries(&dashboard);
        assert!(queries.len() > 8, "{file}: only {} queries were found", queries.len());
        for query in queries {
            for name in names(query) {
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                match kinds.get(base).or_else(|| kinds.get(name)) {
                    Some(Kind::Histogram) => assert_ne!(base, name, "{file}: a histogram has no value of its own: {query}"),
                    Some(Kind::Counter) => {
                        let used = ["rate", "increase"].iter().any(|function| query.contains(&format!("{function}({name}")));
                        let used = used || query.contains(&format!("sum by (instance) ({name}")) && query.contains(") - sum by"); // a difference
                        assert!(used, "{file}: a counter says something only as rate or increase: {query}");
                    }
                    Some(Kind::Gauge) => assert!(!query.contains(&format!("rate({name}")), "{file}: the rate of a gauge: {query}"),
                    None => assert!(PROCESS_METRICS.contains(&name), "{file}: there is no metric {name}: {query}"),
                }
            }
        }
    }
}

#[test]
fn every_metric_of_ours_is_looked_at_somewhere() {
    let dashboards = dashboards();
    let used: BTreeSet<_> = dashboards.iter().flat_map(|(_, dashboard)| queries(dashboard)).flat_map(names).collect();
    for metric in CATALOGUE {
        let forms = [metric.name.to_owned(), format!("{}_bucket", metric.name)];
        let told = "flumen_config_last_reload_timestamp_seconds"; // what it says, only an alert needs
        assert!(metric.name == told || forms.iter().any(|form| used.contains(form.as_str())), "{} is on no dashboard", metric.name);
    }
}

#[test]
fn panels_have_their_own_ids_their_own_places_and_the_chosen_source() {
    for (file, dashboard) in dashboards() {
        for field in ["uid", "title"] {
            assert!(dashboard[field].as_str().is_some_and(|text| !text.is_empty()), "{file}: {field}");
        }
        assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{file}: schemaVersion");
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{file}: {title} has the id of another panel");
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{file}: {title}: {name}"));
            assert!(at("x") + at("w") <= 24, "{file}: {title} is beyond the edge");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(cells.insert((x, y)), "{file}: {title} lies on another panel");
                }
            }
        }
        let variables: Vec<_> = dashboard["templating"]["list"].as_array().expect("variables").iter().map(|v| &v["name"]).collect();
        assert_eq!(variables, ["datasource", "instance", "mount"], "{file}");
        visit(&dashboard, &mut |fields| {
            if fields.contains_key("expr") {
                assert_eq!(fields["datasource"]["uid"], "${datasource}", "{file}: {}", fields["expr"]);
            }
        });
    }
}

#[test]
fn panels_say_what_they_show_and_in_which_unit_and_links_lead_to_dashboards_that_are_there() {
    let dashboards = dashboards();
    let uids: BTreeSet<_> = dashboards.iter().map(|(_, dashboard)| dashboard["uid"].as_str().expect("a uid")).collect();
    assert_eq!(uids.len(), dashboards.len(), "each has a uid of its own");
    for (file, dashboard) in &dashboards {
        for panel in dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row") {
            let title =
                panel["title"].as_str().filter(|title| !title.is_empty()).unwrap_or_else(|| panic!("{file}: a panel without a title"));
            let says = panel["description"].as_str().unwrap_or_default();
            assert!(says.len() > 5, "{file}: {title} does not say what it shows");
            let units = [&panel["fieldConfig"]["defaults"]["unit"], &panel["options"]["yAxis"]["unit"]];
            assert!(units.iter().any(|unit| unit.as_str().is_some_and(|unit| !unit.is_empty())), "{file}: {title} has no unit");
            let mut letters = BTreeSet::new();
            for target in panel["targets"].as_array().unwrap_or_else(|| panic!("{file}: {title} asks for nothing")) {
                assert!(letters.insert(target["refId"].as_str().expect("a refId")), "{file}: {title}: two queries have one letter");
            }
            assert!(!letters.is_empty(), "{file}: {title} asks for nothing");
        }
        // From each to all others: by a tag that all have, or by the uid of one.
        let mut ways = 0;
        visit(dashboard, &mut |fields| {
            if fields.get("type").is_some_and(|kind| kind == "dashboards") {
                let tags = fields["tags"].as_array().expect("tags");
                let has = |dashboard: &Value| dashboard["tags"].as_array().is_some_and(|own| tags.iter().all(|tag| own.contains(tag)));
                assert!(!tags.is_empty() && dashboards.iter().all(|(_, dashboard)| has(dashboard)), "{file}: links to {tags:?}");
                ways += 1;
            }
            let url = fields.get("url").and_then(Value::as_str).unwrap_or_default();
            let uid = url.strip_prefix("/d/").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
            assert!(url.is_empty() || uid.is_some_and(|uid| uids.contains(uid)), "{file}: {url} leads nowhere");
        });
        assert!(ways > 0, "{file} leads to no other");
    }
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_alert_is_tested_and_has_its_page_in_the_runbook() {
    let (alerts, tests, runbook) = (file("dashboards/alerts.yml"), file("dashboards/alerts_test.yml"), file("docs/runbook.md"));
    let names_of = |text: &str, before: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| Some(line.trim_start().strip_prefix(before)?.to_owned())).collect()
    };
    let named = names_of(&alerts, "- alert: ");
    assert!(named.len() >= 12, "{named:?}");
    assert_eq!(names_of(&runbook, "## "), named);
    for alert in &named {
        assert!(alerts.contains(&format!("runbook_url: docs/runbook.md#{}\n", alert.to_lowercase())), "{alert} links elsewhere");
        let fires = format!("alertname: {alert}\n");
        let silent = format!("{{alertname: {alert}, ");
        assert!(tests.contains(&fires) && tests.contains(&silent), "{alert} is not tested both ways");
    }
    let known: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name).chain(PROCESS_METRICS).collect();
    for name in names(&alerts) {
        assert!(known.contains(name.trim_end_matches("_bucket")), "there is no metric {name}");
    }
    let told = Command::new("promtool")
        .args(["test", "rules", "alerts_test.yml"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards"))
        .output()
        .expect("promtool");
    assert!(told.status.success(), "{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
}

/// A Prometheus that scrapes one server every second; stopped when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _dir: tempdir::Dir,
}

mod tempdir {
    use std::path::PathBuf;

    pub(crate) struct Dir(pub(crate) PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn watching(server: &Server) -> Self {
        let dir = tempdir::Dir(std::env::temp_dir().join(format!("flumen-prometheus-{}", std::process::id())));
        std::fs::create_dir_all(&dir.0).expect("a folder");
        let config = dir.0.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: flumen\n    static_configs: [{{targets: [\"127.0.0.1:{}\"]}}]\n",
            server.port
        );
        std::fs::write(&config, text).expect("written");
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.0.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus");
        Self { child, port, _dir: dir }
    }

    /// How many series a query finds.
    fn found(&self, query: &str) -> Result<usize, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(url).query("query", query).call().map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        answer["data"]["result"].as_array().map(Vec::len).ok_or_else(|| answer["error"].to_string())
    }
}

/// What promtool has to say of a server's metrics; nothing, if they are as Prometheus wants them.
fn promtool_on_metrics_of(server: &Server) -> String {
    let text = server.get("/metrics").body;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    child.stdin.take().expect("a pipe").write_all(&text).expect("written");
    let told = child.wait_with_output().expect("promtool ends");
    format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr))
}

#[test]
fn exporters_names_say_what_icecasts_document_says_and_come_and_go_by_a_reload() {
    let with = |on: bool, mounts: &str| format!("[metrics]\nicecast_exporter = {on}\n{mounts}");
    let other = MP3.replace("/radio.mp3", "/other.mp3");
    let hidden = format!("{}hidden = true\n", MP3.replace("/radio.mp3", "/hidden.mp3"));
    let server = Server::start(&with(true, &format!("{MP3}{other}{hidden}")));
    let _listeners = [server.listen("/radio.mp3"), server.listen("/radio.mp3"), server.listen("/other.mp3")];
    assert!(until(Duration::from_secs(10), || server.metric("flumen_connections", &["kind=\"listener\""]) == 3.0));
    let theirs = || -> BTreeSet<String> {
        let text = server.get("/metrics").body_text();
        text.lines().filter(|line| line.starts_with("icecast_")).map(str::to_owned).collect()
    };
    let document: Value = serde_json::from_str(&server.get("/status-json.xsl").body_text()).expect("JSON");
    let mut wanted = BTreeSet::from(["icecast_up 1".to_owned()]);
    let seconds = |date: &Value| {
        let date = date.as_str().expect("a date");
        let told = Command::new("date").args(["+%s", "-d", date]).output().expect("date");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    };
    wanted.insert(format!("icecast_server_start {}", seconds(&document["icestats"]["server_start_iso8601"])));
    for (source, mount) in document["icestats"]["source"].as_array().expect("two").iter().zip(["/other.mp3", "/radio.mp3"]) {
        let text = |name: &str| source[name].as_str().expect(name).to_owned();
        assert!(text("listenurl").ends_with(mount), "{source}");
        let labels = format!("listenurl=\"{}\",mountpoint=\"{mount}\",server_type=\"{}\"", text("listenurl"), text("server_type"));
        wanted.insert(format!("icecast_listeners{{{labels}}} {}", source["listeners"]));
        wanted.insert(format!("icecast_stream_start{{{labels}}} {}", seconds(&source["stream_start_iso8601"])));
    }
    assert_eq!(theirs(), wanted);
    assert_eq!(promtool_on_metrics_of(&server), "");

    server.rewrite("", &with(true, MP3));
    assert_eq!(server.tell("reload").0, Some(0));
    wanted.retain(|line| !line.contains("/other.mp3"));
    assert_eq!(theirs(), wanted, "what is told of a mount goes with it");
    assert_eq!(server.request("POST", "/api/v1/mounts/radio.mp3/source/stop").expect("an answer").status, 204);
    let gone = || theirs().iter().all(|line| !line.contains("listenurl"));
    assert!(until(Duration::from_secs(10), gone), "as Icecast lists no mount without a source: {:?}", theirs());

    server.rewrite("", &with(false, MP3));
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && said.contains("metrics.icecast_exporter") && !said.contains("restart"), "{said}");
    assert_eq!(theirs(), BTreeSet::new());
    assert_eq!(promtool_on_metrics_of(&server), "");
}

/// A query as Grafana sends it.
fn filled_in(query: &str) -> String {
    query.replace("$instance", ".*").replace("$mount", ".*").replace("$__rate_interval", "10s")
}

#[test]
fn every_query_finds_something_in_a_prometheus_that_scrapes_a_server_under_load() {
    let keys = tempdir::Dir(std::env::temp_dir().join(format!("flumen-keys-{}", std::process::id())));
    std::fs::create_dir_all(&keys.0).expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (keys.0.join("cert.pem"), keys.0.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).and_then(|()| std::fs::write(&key, made.signing_key.serialize_pem())).expect("written");
    let tls = format!(
        "[[server.tls]]\nlisten = [\"127.0.0.1:{}\"]\ncertificates = [{{ cert = \"{}\", key = \"{}\" }}]\n\
         [[address_group]]\nname = \"here\"\nnetworks = [\"127.0.0.0/8\"]\n",
        free_port(),
        cert.display(),
        key.display()
    );
    let peer = Server::start(MP3);
    let peers = format!("redirect_peers = [\"{}\"]", peer.url(""));
    let server = Server::start_with(&peers, &format!("{tls}\n{MP3}max_listeners = 100\n"));
    let prometheus = Prometheus::watching(&server);
    let first = "flumen_sent_bytes_total > 0";
    let mut listeners: Vec<_> = (0..5).map(|_| server.listen("/radio.mp3")).collect();
    assert!(until(Duration::from_secs(30), || prometheus.found(first) == Ok(1)), "{:?}", prometheus.found(first));
    for _ in 0..12 {
        server.listen("/radio.mp3").read(1000); // comes and goes
        listeners.iter_mut().for_each(|listener| drop(listener.read(8000)));
    }
    let enough = "count_over_time(flumen_sent_bytes_total[10s]) > 5";
    assert!(until(Duration::from_secs(30), || prometheus.found(enough) == Ok(1)), "{:?}", prometheus.found(enough));
    let asked = "flumen_peer_load_ratio";
    assert!(
        until(Duration::from_secs(30), || prometheus.found(asked) == Ok(1)),
        "the other server has answered: {:?}",
        prometheus.found(asked)
    );
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().expect("panels") {
            for query in queries(panel) {
                match prometheus.found(&filled_in(query)) {
                    Ok(count) => assert!(count > 0, "{file}: {}: nothing is found by {query}", panel["title"]),
                    Err(error) => panic!("{file}: {}: {error}: {query}", panel["title"]),
                }
            }
        }
        for query in queries(&dashboard["annotations"]) {
            assert!(prometheus.found(&filled_in(query)).is_ok(), "{file}: {query}");
        }
    }
    server.rewrite(&peers, &format!("{tls}\n{MP3}name = \"N\"\n"));
    assert_eq!(server.tell("reload").0, Some(0));
    let marked = "changes(flumen_config_last_reload_timestamp_seconds[1m]) > 0";
    assert!(until(Duration::from_secs(30), || prometheus.found(marked) == Ok(1)), "a reload is marked");
}
