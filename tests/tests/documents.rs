//! The documents agree with the programs: options, rules and reasons stand in the manual pages, cures in docs/reasons.md.

use std::fs;

use lab::program::Check;
use lab::shipped;

fn read(name: &str) -> String {
    fs::read_to_string(shipped::file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn page(program: &str) -> String {
    read(&format!("man/{program}.8"))
}

/// The page of what all programs share.
fn shared_page() -> String {
    read("man/mysqlchk.7")
}

/// The part of a page below a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!(".SH {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n.SH ").next().unwrap()
}

/// All `--words` of a text, in order and once.
fn options(text: &str) -> Vec<String> {
    let is_end = |c: char| !(c.is_ascii_lowercase() || c == '-');
    let words = text.split("--").skip(1).map(|rest| rest.split(is_end).next().unwrap_or_default());
    let mut found: Vec<String> = words.filter(|word| word.len() > 1).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_page_has_every_option_and_no_other() {
    for program in shipped::programs() {
        let help = Check::new(program).args(["--help"]).run().stdout;
        let listed: Vec<&str> = help.lines().filter(|line| line.trim_start().starts_with('-')).collect();
        let (own, shared) = (page(program), shared_page());
        let tags = |page| {
            let items = section(page, "OPTIONS").split(".TP\n").skip(1);
            items.map(|item| item.lines().next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let (own, shared) = (options(&tags(&own).join("\n")), options(&tags(&shared).join("\n")));
        assert!(!own.iter().any(|option| shared.contains(option)), "{program}: an option stands in both pages");
        let mut documented = [own, shared].concat();
        documented.sort();
        assert_eq!(options(&listed.join("\n")), documented, "{program}");
    }
}

#[test]
fn the_page_of_mysqlchk_ctl_has_every_option_and_no_other() {
    let help = |command: &[&str]| Check::new("mysqlchk-ctl").args(command).args(["--help"]).run().stdout;
    let commands = help(&[]);
    let (_, commands) = commands.split_once("Commands:\n").unwrap();
    let commands = commands.lines().map_while(|line| line.split_whitespace().next());
    let listed: Vec<String> = commands
        .flat_map(|command| help(&[command]).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.trim_start().starts_with('-'))
        .map(|line| line.split_whitespace().find(|word| word.starts_with("--")).unwrap_or_default().to_owned())
        .filter(|option| !["--help", "--version"].contains(&option.as_str()))
        .collect();
    assert!(listed.len() > 10, "{listed:?}");
    let page = page("mysqlchk-ctl");
    let items = section(&page, "OPTIONS").split(".TP\n").skip(1);
    let tags: Vec<&str> = items.map(|item| item.lines().next().unwrap_or_default()).collect();
    assert_eq!(options(&listed.join("\n")), options(&tags.join("\n")));
}

#[test]
fn a_page_has_the_defaults_of_the_help() {
    for program in shipped::programs() {
        let help = Check::new(program).args(["--help"]).run().stdout;
        let page = page(program) + &shared_page();
        let defaults = help.split("[default: ").skip(1).map(|rest| rest.split([']', ' ']).next().unwrap());
        for default in defaults.filter(|default| !["auto", "no", "do", "all"].contains(default)) {
            assert!(page.contains(default), "{program}: {default}");
        }
    }
}

/// A reason without what varies: numbers, and the values after `is`.
fn shape(reason: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in reason.split(' ') {
        let number = word.trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
        let value = words.last().is_some_and(|last| last == "is")
            && word.chars().next().is_some_and(|c| !c.is_ascii_lowercase());
        let word = if number.is_empty() { word.to_owned() } else { word.replace(&number, "0") };
        words.push(if value { "VALUE".into() } else { word });
    }
    words.join(" ")
}

/// The reasons in the table of a rule's unit test, in its order.
fn table(program: &str) -> Vec<String> {
    let rules = read(&format!("crates/{program}/src/rules.rs"));
    let mut tests = rules.split("#[cfg(test)]").nth(1).unwrap().to_owned();
    // Where several rows have the same reason, it is a constant.
    let mut constants: Vec<String> =
        tests.lines().filter(|line| line.contains("const ") && line.contains('"')).map(str::to_owned).collect();
    // A name that ends in another one goes first.
    constants.sort_by_key(|line| std::cmp::Reverse(line.find(':')));
    for line in constants {
        let name = line.trim().trim_start_matches("const ").split(':').next().unwrap();
        let value = line.split('"').nth(1).unwrap_or_else(|| panic!("{program}: {line}"));
        tests = tests.replace(&line, "").replace(name, &format!("\"{value}\""));
    }
    let verdict = |text: &str| ["down: ", "drain: ", "up: "].iter().find_map(|word| text.strip_prefix(word).map(shape));
    tests.split('"').filter_map(verdict).collect()
}

/// The reasons that are the tags of a page's rules, in its order.
fn tags(program: &str) -> Vec<String> {
    let page = page(program);
    let rules = section(&page, "RULES");
    let tags = rules.split(".TP\n").skip(1).map(|item| item.lines().next().unwrap());
    let mut tags: Vec<String> = tags.map(|line| line.trim_start_matches(".B ").replace("\\(ga", "`")).collect();
    // The rule that opens both tables of a page is one rule.
    let first = tags.remove(0);
    tags.retain(|tag| *tag != first);
    tags.insert(0, first);
    tags
}

#[test]
fn the_rules_of_a_page_are_those_of_the_code_in_their_order() {
    for program in shipped::programs() {
        let (table, tags) = (table(program), tags(program));
        assert!(tags.len() >= 3, "{program}: {tags:?}");
        let mut last = 0;
        for tag in tags.iter().filter(|tag| !tag.contains("the server answers") && !tag.starts_with("channel")) {
            let at = table.iter().position(|reason| *reason == shape(tag));
            let at = at.unwrap_or_else(|| panic!("{program}: no rule says {tag:?}, in {table:#?}"));
            // What is up or drained stands last in a page, and between the rules in the table.
            let is_last = tag.starts_with("local state is") && !tag.contains("not 4")
                || tag.contains("which is allowed")
                || tag.starts_with("lag is ");
            assert!(is_last || at >= last, "{program}: {tag:?} is out of order");
            last = last.max(if is_last { last } else { at });
        }
    }
}

#[test]
fn every_rule_that_takes_a_server_out_has_a_cure() {
    let text = read("docs/reasons.md");
    let reasons = text.split(['`', '|']).map(|text| shape(text.trim())).collect::<Vec<_>>().join("\n") + &text;
    for program in shipped::programs() {
        let page = page(program);
        let is_up = |tag: &str| {
            let item = page.split(".TP\n").find(|item| item.replace("\\(ga", "`").starts_with(&format!(".B {tag}\n")));
            item.and_then(|item| item.lines().nth(1)).is_some_and(|line| line.starts_with("Up"))
        };
        let (up, down): (Vec<_>, Vec<_>) = tags(program).into_iter().partition(|tag| is_up(tag));
        assert!(!up.is_empty() && down.len() >= 2, "{program}: {up:?} {down:?}");
        for tag in down {
            let found = reasons.contains(&shape(&tag)) || reasons.contains(&tag);
            assert!(found, "{program}: {tag:?} is not in docs/reasons.md");
        }
    }
}

#[test]
fn the_readme_is_short_and_every_link_of_a_document_leads_somewhere() {
    assert!(read("README.md").lines().count() <= 220);
    let documents = |directory: &'static str| {
        let names = fs::read_dir(shipped::file(directory)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md"));
        names.map(move |name| format!("{directory}/{name}"))
    };
    let all = documents("docs")
        .chain(documents("docs/recipes"))
        .chain(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(String::from));
    let mut links = 0;
    for name in all {
        let text = read(&name);
        for link in
            text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
        {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = shipped::file(&name).parent().unwrap().join(file);
            let target = if file.is_empty() { shipped::file(&name) } else { target };
            let linked = fs::read(&target).unwrap_or_else(|error| panic!("{name}: {link}: {error}"));
            // It may be a picture.
            let linked = String::from_utf8_lossy(&linked);
            let anchor = |line: &str| {
                let kept = line.trim_start_matches(['#', ' ']).to_lowercase();
                kept.replace(' ', "-").replace(|c: char| !(c.is_alphanumeric() || c == '-'), "")
            };
            let is_there = linked.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
            assert!(heading.is_empty() || is_there, "{name}: {link}: no such heading");
            links += 1;
        }
    }
    assert!(links > 20, "{links}");
}

#[test]
fn the_pictures_are_small_and_run_nothing() {
    let names = fs::read_dir(shipped::file("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pictures: Vec<_> =
        names.filter(|name| name.extension().is_some_and(|kind| kind == "svg" || kind == "png")).collect();
    assert!(pictures.len() >= 3, "{pictures:?}");
    for picture in pictures {
        let content = fs::read(&picture).unwrap();
        assert!(content.len() < 200_000, "{}: {} bytes", picture.display(), content.len());
        // Such a picture is not shown.
        assert!(!String::from_utf8_lossy(&content).contains("<script"), "{}", picture.display());
    }
}

#[test]
fn the_queries_of_a_page_are_those_of_the_code() {
    for program in shipped::programs() {
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        let page = squeeze(section(&page(program), "THE QUERY"));
        let folder = format!("crates/{program}/src");
        let files = fs::read_dir(shipped::file(&folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut code: String = files.map(|file| read(&format!("{folder}/{}", file.to_str().unwrap()))).collect();
        if code.contains("client::group") {
            code += &read("crates/client/src/group.rs");
        }
        let code = code.replace("\\\n", "").replace("pub(crate) const", "const").replace("pub const", "const");
        let is_statement =
            |line: &&str| line.contains("&str = \"SHOW") || line.contains("&str = \"SELECT ") && line.contains("FROM");
        let statements = code.lines().filter(|line| line.starts_with("const ")).filter(is_statement);
        for statement in statements.map(|line| squeeze(line.split('"').nth(1).unwrap())) {
            assert!(page.contains(&statement), "{program}: {statement}");
        }
    }
}
