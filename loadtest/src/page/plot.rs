//! The page's plots: SVG drawn by `plotters`, in colours that the style sheet can change for the dark.
//!
//! - A plot is as large as a phone's screen is wide, so that its letters can be read there; on a wide screen two share a row.
//! - Scales begin at zero where all values are positive: what is flat looks flat.
//! - A series is thinned to the least and the greatest of each stretch, so no peak is lost, however long the run.
//!
//! Deliberately absent: legends inside the plot (the page writes them as text), fonts (the reader's own are used).

use std::fmt::Write as _;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Bar, Group, Series};

/// Series, groups and bars of a group beyond these are not drawn.
pub(super) const SERIES_MAX: usize = 16;
const GROUPS_MAX: usize = 40;
/// Stretches of a series' thinning; each keeps two points.
const STRETCHES: usize = 240;

const WIDTH: u32 = 480;
const HEIGHT: u32 = 270;
/// Comes out a fifth smaller: `plotters` means another size than CSS.
const LETTERS: u32 = 16;
const INK: RGBColor = RGBColor(0x1c, 0x1f, 0x23);
const GRID: RGBColor = RGBColor(0xd6, 0xda, 0xde);

/// Each series' colour on light ground, and what the style sheet makes of it on dark. Told apart by the colour-blind, too.
const PALETTE: [(RGBColor, &str); COLOURS] = [
    (RGBColor(0x00, 0x69, 0xb0), "#5cb3f0"),
    (RGBColor(0xd1, 0x5b, 0x00), "#ff9a4d"),
    (RGBColor(0x00, 0x8a, 0x65), "#3fcfa4"),
    (RGBColor(0xb4, 0x4d, 0x8c), "#ee9bd0"),
    (RGBColor(0x7a, 0x68, 0x00), "#d9c64a"),
    (RGBColor(0x5b, 0x47, 0xa8), "#b3a2f5"),
    (RGBColor(0x1c, 0x8f, 0xa6), "#7fdcee"),
    (RGBColor(0x63, 0x68, 0x6e), "#b4b9bf"),
];
pub(super) const COLOURS: usize = 8;

fn colour(at: usize) -> RGBColor {
    PALETTE[at % COLOURS].0
}

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// The legends' colours, and the plots' colours in the dark. A presentation attribute yields to any rule of a style sheet.
pub(super) fn style() -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for (at, (colour, in_the_dark)) in PALETTE.iter().enumerate() {
        let of = hex(*colour);
        // Writing to a String cannot fail.
        let _ = writeln!(light, ".c{at} {{ background: {of}; }}");
        let _ = writeln!(dark, ".c{at} {{ background: {in_the_dark}; }}");
        for property in ["fill", "stroke"] {
            let _ = writeln!(dark, "[{property}=\"{of}\"] {{ {property}: {in_the_dark}; }}");
        }
    }
    for (colour, variable) in [(INK, "--ink"), (GRID, "--line")] {
        for property in ["fill", "stroke"] {
            let _ = writeln!(light, "[{property}=\"{}\"] {{ {property}: var({variable}); }}", hex(colour));
        }
    }
    format!("{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

/// `None` when there is nothing to draw.
pub(super) fn lines(x: &str, y: &str, series: &[Series]) -> anyhow::Result<Option<String>> {
    let thin: Vec<Vec<(f64, f64)>> = series.iter().take(SERIES_MAX).map(|series| thinned(&series.points, STRETCHES)).collect();
    let (Some(across), Some(up)) = (ends(thin.iter().flatten().map(|p| p.0)), ends(thin.iter().flatten().map(|p| p.1))) else {
        return Ok(None);
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(44)
            .y_label_area_size(68)
            .build_cartesian_2d(widened(across, 0.0), widened(up.start.min(0.0)..up.end, 0.06))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(letters())
            .x_desc(x)
            .y_desc(y)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|value| figure(*value))
            .y_label_formatter(&|value| figure(*value))
            .draw()?;
        for (at, points) in thin.into_iter().enumerate() {
            match points.as_slice() {
                [only] => chart.draw_series([Circle::new(*only, 3, colour(at).filled())])?,
                _ => chart.draw_series([PathElement::new(points, colour(at).stroke_width(2))])?,
            };
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// The names that bars go by, in the order in which they first come up: a name has one colour in all groups.
pub(super) fn bar_names(groups: &[Group]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for bar in groups.iter().take(GROUPS_MAX).flat_map(|group| &group.bars) {
        if names.len() < SERIES_MAX && !names.contains(&bar.name.as_str()) {
            names.push(&bar.name);
        }
    }
    names
}

/// Bars lie, groups stand under each other: long names have room, on a phone too. `None` when there is nothing to draw.
pub(super) fn bars(y: &str, groups: &[Group], names: &[&str]) -> anyhow::Result<Option<String>> {
    const THICK: u32 = 18;
    const HEAD: u32 = 24;
    let drawn = |bar: &&Bar| names.contains(&bar.name.as_str()) && [bar.median, bar.min, bar.max].iter().all(|value| value.is_finite());
    let groups: Vec<(&str, Vec<&Bar>)> = groups
        .iter()
        .take(GROUPS_MAX)
        .map(|group| (group.name.as_str(), group.bars.iter().filter(drawn).take(SERIES_MAX).collect()))
        .filter(|(_, bars): &(_, Vec<&Bar>)| !bars.is_empty())
        .collect();
    let all = groups.iter().flat_map(|(_, bars)| bars);
    let Some(up) = ends(all.flat_map(|bar| [bar.median, bar.min, bar.max])) else { return Ok(None) };
    let rows: u32 = groups.iter().map(|(_, bars)| HEAD + THICK * bars.len() as u32).sum();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, rows + 60)).into_drawing_area();
        // Room on the right for the figure behind the longest bar.
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(64)
            .x_label_area_size(44)
            .build_cartesian_2d(widened(up.start.min(0.0)..up.end, 0.02), 0.0..f64::from(rows))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(letters())
            .x_desc(y)
            .x_labels(5)
            .y_labels(0)
            .x_label_formatter(&|value| figure(*value))
            .draw()?;
        let place = chart.plotting_area();
        let left = up.start.min(0.0);
        let mut top = f64::from(rows);
        for (name, bars) in &groups {
            let at = Pos::new(HPos::Left, VPos::Bottom);
            // What the drawing area does not know how to measure it does not cut: a name is as long as it may be.
            let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            place.draw(&(EmptyElement::at((left, top - f64::from(HEAD))) + Text::new(name, (2, -2), letters().pos(at))))?;
            top -= f64::from(HEAD);
            for bar in bars {
                let which = names.iter().position(|name| *name == bar.name).unwrap_or(0);
                let (upper, lower) = (top - 2.0, top - f64::from(THICK) + 2.0);
                let middle = (upper + lower) / 2.0;
                place.draw(&Rectangle::new([(0.0, lower), (bar.median, upper)], colour(which).filled()))?;
                if bar.max > bar.min {
                    for line in whisker(bar, middle) {
                        place.draw(&PathElement::new(line, INK.stroke_width(1)))?;
                    }
                }
                let behind = Pos::new(HPos::Left, VPos::Center);
                let end = (bar.median.max(bar.max), middle);
                place.draw(&(EmptyElement::at(end) + Text::new(figure(bar.median), (5, 0), letters().pos(behind))))?;
                top -= f64::from(THICK);
            }
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// From the least to the greatest, with a foot at each.
fn whisker(bar: &Bar, middle: f64) -> [Vec<(f64, f64)>; 3] {
    const FOOT: f64 = 3.0;
    [
        vec![(bar.min, middle), (bar.max, middle)],
        vec![(bar.min, middle - FOOT), (bar.min, middle + FOOT)],
        vec![(bar.max, middle - FOOT), (bar.max, middle + FOOT)],
    ]
}

fn letters() -> TextStyle<'static> {
    ("sans-serif", LETTERS).into_font().color(&INK)
}

fn ends(values: impl Iterator<Item = f64>) -> Option<std::ops::Range<f64>> {
    let found = values.filter(|value| value.is_finite()).fold(None, |ends: Option<(f64, f64)>, value| {
        let (low, high) = ends.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    });
    found.map(|(low, high)| low..high)
}

/// Never empty, with air above (and below what is negative).
fn widened(range: std::ops::Range<f64>, share: f64) -> std::ops::Range<f64> {
    let width = range.end - range.start;
    if width <= 0.0 {
        return range.start..range.start + range.start.abs().max(1.0);
    }
    let below = if range.start < 0.0 { width * share } else { 0.0 };
    range.start - below..range.end + width * share
}

/// At most two points per stretch of x, its least and its greatest, in their order; what is no number is left out.
fn thinned(points: &[(f64, f64)], stretches: usize) -> Vec<(f64, f64)> {
    let good: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let Some(across) = ends(good.iter().map(|point| point.0)).filter(|_| good.len() > 2 * stretches) else { return good };
    let width = (across.end - across.start).max(f64::MIN_POSITIVE);
    // The index of the least and of the greatest point of each stretch.
    let mut kept: Vec<Option<(usize, usize)>> = vec![None; stretches];
    for (at, (x, y)) in good.iter().enumerate() {
        let stretch = (((x - across.start) / width * stretches as f64) as usize).min(stretches - 1);
        let (least, greatest) = kept[stretch].get_or_insert((at, at));
        if *y < good[*least].1 {
            *least = at;
        }
        if *y > good[*greatest].1 {
            *greatest = at;
        }
    }
    let mut indices: Vec<usize> = kept.into_iter().flatten().flat_map(|(least, greatest)| [least, greatest]).collect();
    indices.sort_unstable();
    indices.dedup();
    indices.into_iter().map(|at| good[at]).collect()
}

/// A number as people read it: about three digits, thousands apart by a narrow space.
fn figure(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 100.0 || (value.fract().abs() < 1e-9 && size < 1e15) => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ if size >= 0.01 => 3,
        _ => return format!("{value:.1e}"),
    };
    if size >= 1e15 {
        return format!("{value:.2e}");
    }
    let plain = format!("{size:.decimals$}");
    let (whole, part) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut out = if value < 0.0 { "−".to_owned() } else { String::new() };
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push('\u{202F}');
        }
        out.push(digit);
    }
    let part = part.trim_end_matches('0');
    if !part.is_empty() {
        out.push('.');
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_series_is_bounded_and_keeps_its_peaks_and_its_ends() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|at| (f64::from(at), 1.0)).collect();
        points[77_777].1 = 9.0;
        points[12_345].1 = -9.0;
        points[50].1 = f64::NAN;
        let thin = thinned(&points, 100);
        assert!(thin.len() <= 200, "{}", thin.len());
        assert!(thin.contains(&(77_777.0, 9.0)) && thin.contains(&(12_345.0, -9.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0) && thin.iter().all(|point| point.1.is_finite()));
        assert_eq!(thin.first(), Some(&(0.0, 1.0)));
    }

    #[test]
    fn a_short_series_is_left_as_it_is() {
        let points = vec![(0.0, 1.0), (0.0, 2.0), (5.0, 3.0)];
        assert_eq!(thinned(&points, 100), points);
    }

    #[test]
    fn many_points_at_one_moment_do_not_divide_by_zero() {
        assert!(thinned(&vec![(1.0, 2.0); 1_000], 10).len() <= 2);
    }

    #[test]
    fn figures_are_short_and_read_well() {
        for (value, want) in [
            (0.0, "0"),
            (1234567.0, "1\u{202F}234\u{202F}567"),
            (-1500.4, "−1\u{202F}500"),
            (12.345, "12.3"),
            (1.5, "1.5"),
            (0.125, "0.125"),
            (0.0001, "1.0e-4"),
            (1e300, "1.00e300"),
        ] {
            assert_eq!(figure(value), want);
        }
    }

    #[test]
    fn a_scale_is_never_empty() {
        for (range, share) in [(0.0..0.0, 0.0), (5.0..5.0, 0.1), (-3.0..-3.0, 0.1), (0.0..1.0, 0.0)] {
            let wide = widened(range.clone(), share);
            assert!(wide.start < wide.end && wide.start <= range.start && wide.end >= range.end, "{range:?} {wide:?}");
        }
    }

    #[test]
    fn a_name_has_one_colour_in_all_groups() {
        let bar = |name: &str| Bar { name: name.to_owned(), median: 1.0, min: 1.0, max: 1.0 };
        let groups = [
            Group { name: "a".to_owned(), bars: vec![bar("x"), bar("y")] },
            Group { name: "b".to_owned(), bars: vec![bar("y"), bar("z"), bar("x")] },
        ];
        assert_eq!(bar_names(&groups), ["x", "y", "z"]);
    }
}
