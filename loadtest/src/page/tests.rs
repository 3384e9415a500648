use super::*;

fn lines(series: Vec<Series>) -> Block {
    Block::Lines { title: "CPU".to_owned(), x: "seconds", y: "percent", series }
}

fn page(blocks: Vec<Block>) -> String {
    Page { title: "A <run> & \"more\"".to_owned(), blocks }.html().expect("drawn")
}

/// Every element that is opened is closed, in order. Enough XML for what the page writes.
fn well_formed(html: &str) -> Result<(), String> {
    const VOID: [&str; 2] = ["meta", "!doctype"];
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>').ok_or("a tag without end")? + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        if tag.starts_with('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("</{name}> closes {last:?}"));
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

#[test]
fn whatever_comes_from_outside_is_escaped_everywhere() {
    let evil = "</title><script>alert('x')</script>&\u{7}\"";
    let bar = Bar { name: evil.to_owned(), median: 2.0, min: 1.0, max: 3.0 };
    let html = Page {
        title: evil.to_owned(),
        blocks: vec![
            Block::Heading(evil.to_owned()),
            Block::Text(evil.to_owned()),
            Block::Table { head: vec![evil.to_owned()], rows: vec![vec![evil.to_owned()]] },
            Block::Lines {
                title: evil.to_owned(),
                x: "s",
                y: "<y>",
                series: vec![Series { name: evil.to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] }],
            },
            Block::Bars { title: evil.to_owned(), y: "ms", groups: vec![Group { name: evil.to_owned(), bars: vec![bar] }] },
        ],
    }
    .html()
    .expect("drawn");
    assert!(!html.contains("<script") && !html.contains('\u{7}') && !html.contains("<y>"));
    assert_eq!(html.matches("&lt;script&gt;").count(), 11, "shown, not lost");
    well_formed(&html).expect("well-formed");
}

#[test]
fn a_page_fetches_nothing_and_runs_nothing() {
    let html = page(vec![lines(vec![Series { name: "x".to_owned(), points: vec![(0.0, 1.0), (1.0, 3.0)] }])]);
    let addresses: Vec<&str> = html.matches("http://www.w3.org/2000/svg").collect();
    assert_eq!(html.matches("://").count(), addresses.len(), "only the name of SVG looks like an address");
    for word in ["<script", "<link", "<img", "url(", "@import", " on", "<iframe"] {
        let found = html.find(word).map(|at| &html[at..(at + 40).min(html.len())]);
        // "on" may begin a word of text, never an attribute.
        assert!(found.is_none_or(|text| word == " on" && !text.contains('=')), "{word}: {found:?}");
    }
}

#[test]
fn a_plot_of_nothing_or_of_nonsense_is_said_in_words() {
    let none = |points: Vec<(f64, f64)>| lines(vec![Series { name: "x".to_owned(), points }]);
    let bars = |groups| Block::Bars { title: "t".to_owned(), y: "y", groups };
    let nan = Bar { name: "b".to_owned(), median: f64::NAN, min: 0.0, max: f64::INFINITY };
    for block in [
        lines(Vec::new()),
        none(Vec::new()),
        none(vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]),
        bars(Vec::new()),
        bars(vec![Group { name: "g".to_owned(), bars: vec![nan] }]),
    ] {
        let html = page(vec![block]);
        assert!(html.contains("Nothing was measured") && !html.contains("<svg"), "{html}");
        well_formed(&html).expect("well-formed");
    }
}

#[test]
fn plots_of_one_point_of_equal_values_and_of_negative_ones_are_drawn() {
    for points in [vec![(1.0, 1.0)], vec![(0.0, 0.0), (9.0, 0.0)], vec![(0.0, -5.0), (1.0, 5.0)], vec![(0.0, 1e300), (1e-300, 2e300)]] {
        let html = page(vec![lines(vec![Series { name: "x".to_owned(), points }])]);
        assert!(html.contains("<svg"));
        well_formed(&html).expect("well-formed");
    }
}

#[test]
fn only_columns_of_figures_stand_on_the_right() {
    let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
    let rows = vec![cells(&["12.5 %", "7 of 9 were there"]), cells(&["−3", "none"]), cells(&["", "x"])];
    let html = page(vec![Block::Table { head: cells(&["CPU", "who"]), rows }]);
    assert!(html.contains("<th class=\"n\">CPU</th><th>who</th>"), "{html}");
    assert!(html.contains("<td class=\"n\">−3</td><td>none</td>"), "{html}");
}

#[test]
fn a_page_stays_small_however_long_the_run_was() {
    let long =
        |slope: f64| Series { name: "x".to_owned(), points: (0..200_000).map(|at| (f64::from(at), slope * f64::from(at % 977))).collect() };
    let groups = (0..500)
        .map(|group| Group {
            name: format!("group {group}"),
            bars: (0..50).map(|bar| Bar { name: format!("bar {bar}"), median: 1.0, min: 0.0, max: 2.0 }).collect(),
        })
        .collect();
    let html = page(vec![
        lines((0..40).map(|at| long(f64::from(at))).collect()),
        Block::Table { head: Vec::new(), rows: (0..100_000).map(|row| vec![row.to_string()]).collect() },
        Block::Bars { title: "t".to_owned(), y: "y", groups },
    ]);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(html.contains("and 99600 more rows"));
    well_formed(&html).expect("well-formed");
}

#[test]
fn every_colour_of_a_plot_has_one_for_the_dark() {
    let series = |at: usize| Series { name: at.to_string(), points: vec![(0.0, at as f64), (1.0, 1.0)] };
    let html = page(vec![lines((0..plot::COLOURS).map(series).collect())]);
    let svg = &html[html.find("<svg").expect("a plot")..html.find("</svg>").expect("ends")];
    for found in svg.split("stroke=\"").skip(1).chain(svg.split("fill=\"").skip(1)) {
        let colour = found.split('"').next().unwrap_or_default();
        assert!(colour == "none" || html.contains(&format!("\"{colour}\"] {{")), "{colour} is never changed");
    }
}
