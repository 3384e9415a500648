//! The dashboards against the catalogue and against a real Prometheus: what they ask for exists, and is asked for as what it is.
//! The alerts against promtool and the runbook.

mod support;

use std::collections::{BTreeMap, BTreeSet};
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
    let server = Server::start(&format!("{tls}\n{MP3}"));
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
    server.rewrite("", &format!("{tls}\n{MP3}name = \"N\"\n"));
    assert_eq!(server.tell("reload").0, Some(0));
    let marked = "changes(flumen_config_last_reload_timestamp_seconds[1m]) > 0";
    assert!(until(Duration::from_secs(10), || prometheus.found(marked) == Ok(1)), "a reload is marked");
}
