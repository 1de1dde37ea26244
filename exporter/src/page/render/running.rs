//! What runs now, and the last deaths of workers.

use std::fmt::{self, Write as _};

use metrics_agent::{LoggedDeath, Overview};

use super::ROWS;
use super::values::{Seconds, Text, Time};

/// Writes both sections. Without an overview they stay hidden.
pub(super) fn running(html: &mut String, overview: Option<&Overview>) -> fmt::Result {
    let hidden = if overview.is_none() { " hidden" } else { "" };
    let none = Overview::default();
    let overview = overview.unwrap_or(&none);
    writeln!(
        html,
        "<section id=\"running\"{hidden}><h2>Running now</h2>\n<table><thead><tr><th scope=\"col\">Request</th>\
         <th scope=\"col\">For</th><th scope=\"col\">Worker</th><th scope=\"col\">Process</th>\
         <th scope=\"col\">Trace</th></tr></thead>\n<tbody id=\"running-rows\">"
    )?;
    for request in overview.requests.iter().take(ROWS) {
        writeln!(
            html,
            "<tr><th scope=\"row\"><span class=\"method\">{}</span> {}</th><td data-name=\"For\">{}</td>\
             <td data-name=\"Worker\">{}</td><td data-name=\"Process\">{}</td>\
             <td data-name=\"Trace\" class=\"trace\">{}</td></tr>",
            Text(&request.method),
            Text(&request.endpoint),
            Seconds(Some(request.age)),
            Text(&request.worker),
            request.pid,
            request.trace.as_deref().unwrap_or("–"),
        )?;
    }
    html.push_str("</tbody></table>\n<p id=\"more-running\" class=\"note\">");
    let left_out = overview.requests.len().saturating_sub(ROWS) as u64 + overview.more;
    if overview.requests.is_empty() && left_out == 0 {
        html.push_str("No request.");
    } else if left_out > 0 {
        write!(html, "And {left_out} more, which began later.")?;
    }
    html.push_str("</p></section>\n");
    deaths(html, &overview.deaths, hidden)
}

fn deaths(html: &mut String, deaths: &[LoggedDeath], hidden: &str) -> fmt::Result {
    writeln!(
        html,
        "<section id=\"last-deaths\"{hidden}><h2>Workers that died</h2>\n<ul id=\"deaths\" class=\"lines deaths\">"
    )?;
    for LoggedDeath { death, line } in deaths {
        let time = Time((death.time * 1e3) as u64);
        write!(html, "<li><b>{time} UTC</b><span>{}", Text(line))?;
        if !death.stack.is_empty() {
            let stack = death.stack.join("\n");
            write!(
                html,
                "<details><summary>Where it hung</summary><pre>{}</pre></details>",
                Text(&stack)
            )?;
        }
        html.push_str("</span></li>\n");
    }
    if deaths.is_empty() {
        html.push_str("<li class=\"none\">None.</li>\n");
    }
    html.push_str("</ul></section>\n");
    Ok(())
}
