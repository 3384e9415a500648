//! The dashboards against the catalogue: what they ask for exists, and is asked for as what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use flumen::metrics::{CATALOGUE, Kind, PROCESS_METRICS};
use serde_json::Value;

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
        assert!(queries.len() > 20, "{file}: only {} queries were found", queries.len());
        for query in queries {
            for name in names(query) {
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                match kinds.get(base).or_else(|| kinds.get(name)) {
                    Some(Kind::Histogram) => assert_ne!(base, name, "{file}: a histogram has no value of its own: {query}"),
                    Some(Kind::Counter) => {
                        let used = ["rate", "increase"].iter().any(|function| query.contains(&format!("{function}({name}")));
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
