//! The operators' console: one page, its style and its script, all of them in the binary.
//!
//! The page is for operators; style and script hold nothing that is secret. Nothing is loaded from elsewhere, nothing inline is run,
//! and the page is shown in nobody's frame. What it shows it gets from the API, whose rules hold for it as for any client.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::answers::{answer, readable};
use super::{House, admission};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; media-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/console", page))
        .service(readable("/console/console.css", || async {
            answer(StatusCode::OK, "text/css; charset=utf-8", include_str!("../../templates/console.css").to_owned())
        }))
        .service(readable("/console/console.js", || async {
            answer(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("../../templates/console.js").to_owned())
        }));
}

async fn page(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(refusal) = admission::operator(&request, &house).await {
        return refusal;
    }
    let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", include_str!("../../templates/console.html").to_owned());
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"), // for browsers that do not know the policy's word for it
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        answer.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::testing::Town;
    use crate::access::Password;

    #[test]
    fn the_page_is_for_operators_and_asks_for_a_password_where_one_helps() {
        let town = Town::with(&[]);
        let (status, head, body) = town.ask("GET", "/console", "");
        assert!(status == 200 && body.contains("/console/console.js"), "{body}");
        assert!(head.contains("frame-ancestors 'none'") && head.contains("script-src 'self'") && !head.contains("unsafe"), "{head}");
        assert_eq!(town.ask("GET", "/console", "X-Forwarded-For: 192.0.2.1\r\n").0, 403);
        assert_eq!(town.ask("GET", "/console", "Sec-Fetch-Site: cross-site\r\n").0, 403);
        let password = Some(Password::plain("secret").expect("a password"));
        let town = Town::of(Settings { password, ..Settings::default() }, &[]);
        let (status, head, _) = town.ask("GET", "/console", "X-Forwarded-For: 192.0.2.1\r\n");
        assert!(status == 401 && head.contains("www-authenticate: basic"), "{head}");
        let basic = "X-Forwarded-For: 192.0.2.1\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n";
        assert_eq!(town.ask("GET", "/console", basic).0, 200);
    }

    #[test]
    fn nothing_of_it_is_loaded_from_elsewhere_or_runs_inline() {
        let town = Town::with(&[]);
        for path in ["/console", "/console/console.css", "/console/console.js"] {
            let (status, body) = town.get(path);
            assert_eq!(status, 200, "{path}");
            for part in ["http://", "https://", "innerHTML", "insertAdjacentHTML", "eval(", " onclick=", " style=\"", "@import"] {
                let found = body.replace("http://www.w3.org/", "");
                assert!(!found.contains(part), "{path}: {part}");
            }
        }
    }
}
