//! Small changes of sources that may change what a test does: another operator, constant or result, a statement less.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use std::{collections::BTreeMap, ops::Range};
use syn::{
    Attribute, BinOp, Block, Expr, ExprBinary, ExprRange, ExprUnary, File, ImplItemFn, ItemConst,
    ItemFn, ItemImpl, ItemMacro, ItemStatic, ItemTrait, Lit, Macro, RangeLimits, ReturnType, Stmt,
    Type, UnOp,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// The file, from the root of the repository.
    pub(super) file: String,
    /// The kind of the change.
    pub(super) kind: &'static str,
    /// The bytes that are replaced.
    pub(super) range: Range<usize>,
    /// The bytes in their place.
    pub(super) to: String,
}

impl Mutant {
    /// Returns the file with the change.
    pub(super) fn applied(&self, text: &str) -> Option<String> {
        let (before, after) = (text.get(..self.range.start)?, text.get(self.range.end..)?);
        Some([before, &self.to, after].concat())
    }

    /// Describes the change in a line.
    pub(super) fn words(&self, text: &str) -> String {
        let line = text[..self.range.start].matches('\n').count() + 1;
        let short = |text: &str| -> String {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            text.chars().take(24).collect()
        };
        let (from, to) = (short(&text[self.range.clone()]), short(&self.to));
        format!("{}, {}:{line}: `{from}` is `{to}`", self.kind, self.file)
    }
}

/// Returns the changes of a source file that can be made. `kind` is that of all of them, if the file is of a kind.
pub(super) fn of_source(file: &str, text: &str, kind: Option<&'static str>) -> Vec<Mutant> {
    let Ok(parsed) = syn::parse_file(text) else {
        return Vec::new();
    };
    let mut finder = Finder {
        file,
        text,
        context: kind,
        fixed: kind.is_some(),
        found: Vec::new(),
    };
    finder.visit_file(&parsed);
    finder.found.extend(included(file, &parsed));
    finder.found
}

/// Returns the change of a manifest that has default features.
pub(super) fn of_manifest(file: &str, text: &str) -> Option<Mutant> {
    let start = text.find("\ndefault = [\"")? + "\ndefault = [".len();
    let end = start + text[start..].find(']')?;
    Some(Mutant {
        file: file.to_owned(),
        kind: "feature",
        range: start..end,
        to: String::new(),
    })
}

/// Chooses so many of them, the kinds in turns, in an order of this seed.
pub(super) fn choose(mut all: Vec<Mutant>, seed: u64) -> Vec<Mutant> {
    let mut random = fastrand::Rng::with_seed(seed);
    random.shuffle(&mut all);
    let mut by_kind: BTreeMap<&str, Vec<Mutant>> = BTreeMap::new();
    for mutant in all {
        by_kind.entry(mutant.kind).or_default().push(mutant);
    }
    let mut chosen = Vec::new();
    while by_kind.values().any(|left| !left.is_empty()) {
        chosen.extend(by_kind.values_mut().filter_map(Vec::pop));
    }
    chosen
}

/// Returns the changes of the files that `include_str!` and `include_bytes!` name in a file.
fn included(file: &str, parsed: &File) -> Vec<Mutant> {
    struct Included(Vec<String>);
    impl Visit<'_> for Included {
        fn visit_macro(&mut self, it: &Macro) {
            let name = it.path.segments.last().map(|it| it.ident.to_string());
            if matches!(name.as_deref(), Some("include_str" | "include_bytes"))
                && let Ok(path) = it.parse_body::<syn::LitStr>()
            {
                self.0.push(path.value());
            }
        }
    }
    let mut paths = Included(Vec::new());
    paths.visit_file(parsed);
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let paths = paths.0.into_iter().filter(|path| !path.starts_with('/'));
    let mutants = paths.map(|path| Mutant {
        file: camino::Utf8Path::new(folder).join(path).into_string(),
        kind: "included file",
        range: 0..0,
        to: "x".to_owned(),
    });
    mutants.collect()
}

struct Finder<'a> {
    file: &'a str,
    text: &'a str,
    /// The kind of the changes here, if the place has one.
    context: Option<&'static str>,
    /// The kind is that of the whole file.
    fixed: bool,
    found: Vec<Mutant>,
}

impl Finder<'_> {
    fn add(&mut self, span: Span, kind: &'static str, to: &str) {
        let range = span.byte_range();
        if range.is_empty() || self.text.get(range.clone()).is_none_or(|from| from == to) {
            return;
        }
        self.found.push(Mutant {
            file: self.file.to_owned(),
            kind: self.context.unwrap_or(kind),
            range,
            to: to.to_owned(),
        });
    }

    fn within(&mut self, kind: &'static str, look: impl FnOnce(&mut Self)) {
        let before = self.context;
        if !self.fixed {
            self.context = Some(kind);
        }
        look(self);
        self.context = before;
    }

    /// Replaces a body by a value of its type.
    fn body(&mut self, output: &ReturnType, block: &Block) {
        let values = match output {
            ReturnType::Default if block.stmts.is_empty() => return,
            ReturnType::Default => vec![""],
            ReturnType::Type(_, of) => values(of),
        };
        for value in values {
            self.add(block.span(), "result", &format!("{{ {value} }}"));
        }
    }

    fn literal(&mut self, literal: &Lit, kind: &'static str) {
        match literal {
            Lit::Int(it) if it.suffix().is_empty() || !it.suffix().starts_with('f') => {
                if let Ok(value) = it.base10_parse::<u128>() {
                    let to = format!("{}{}", value + 1, it.suffix());
                    self.add(it.span(), kind, &to);
                }
            }
            Lit::Bool(it) => self.add(it.span, kind, if it.value { "false" } else { "true" }),
            Lit::Str(it) => {
                let from = self.text.get(it.span().byte_range()).unwrap_or_default();
                if let Some(inside) = from.strip_prefix('"') {
                    let to = format!("\"x{inside}");
                    self.add(it.span(), kind, &to);
                }
            }
            _ => {}
        }
    }

    /// Changes literals in what a macro is or takes, which is no syntax yet.
    fn tokens(&mut self, tokens: TokenStream, kind: &'static str) {
        for token in tokens {
            match token {
                TokenTree::Group(group) if group.delimiter() != Delimiter::Bracket => {
                    self.tokens(group.stream(), kind);
                }
                TokenTree::Literal(literal) => self.literal(&Lit::new(literal), kind),
                _ => {}
            }
        }
    }
}

/// Returns values of a type, as source.
fn values(of: &Type) -> Vec<&'static str> {
    let text = match of {
        Type::Path(path) => match path.path.segments.last() {
            Some(last) => last.ident.to_string(),
            None => return Vec::new(),
        },
        Type::Reference(it) => match &*it.elem {
            Type::Path(path) if path.path.is_ident("str") => return vec!["\"\""],
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    match text.as_str() {
        "bool" => vec!["true", "false"],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16" | "i32" | "i64" | "i128"
        | "isize" => vec!["0", "1"],
        "String" => vec!["String::new()"],
        "Vec" => vec!["Vec::new()"],
        "Option" => vec!["None"],
        "Ordering" => vec!["std::cmp::Ordering::Equal"],
        _ => Vec::new(),
    }
}

/// Returns another operator, as source.
fn other(op: &BinOp) -> Option<&'static str> {
    Some(match op {
        BinOp::Add(_) | BinOp::Mul(_) => "-",
        BinOp::Sub(_) => "+",
        BinOp::Div(_) | BinOp::Rem(_) => "*",
        BinOp::And(_) => "||",
        BinOp::Or(_) => "&&",
        BinOp::BitXor(_) | BinOp::BitAnd(_) => "|",
        BinOp::BitOr(_) => "&",
        BinOp::Shl(_) => ">>",
        BinOp::Shr(_) => "<<",
        BinOp::Eq(_) => "!=",
        BinOp::Ne(_) => "==",
        BinOp::Lt(_) => "<=",
        BinOp::Le(_) => "<",
        BinOp::Gt(_) => ">=",
        BinOp::Ge(_) => ">",
        BinOp::AddAssign(_) | BinOp::MulAssign(_) => "-=",
        BinOp::SubAssign(_) => "+=",
        _ => return None,
    })
}

impl Visit<'_> for Finder<'_> {
    fn visit_expr_binary(&mut self, it: &ExprBinary) {
        if let Some(to) = other(&it.op) {
            self.add(it.op.span(), "operator", to);
        }
        visit::visit_expr_binary(self, it);
    }

    fn visit_expr_unary(&mut self, it: &ExprUnary) {
        if matches!(it.op, UnOp::Not(_) | UnOp::Neg(_)) {
            self.add(it.op.span(), "operator", " ");
        }
        visit::visit_expr_unary(self, it);
    }

    fn visit_expr_range(&mut self, it: &ExprRange) {
        if let (RangeLimits::HalfOpen(dots), Some(_)) = (&it.limits, &it.end) {
            self.add(dots.span(), "range", "..=");
        }
        visit::visit_expr_range(self, it);
    }

    fn visit_lit(&mut self, it: &Lit) {
        self.literal(it, "literal");
    }

    fn visit_attribute(&mut self, it: &Attribute) {
        if it.path().is_ident("should_panic")
            && let syn::Meta::List(list) = &it.meta
        {
            let tokens = list.tokens.clone();
            self.within("text of should_panic", |it| {
                it.tokens(tokens, "text of should_panic")
            });
        }
    }

    fn visit_item_const(&mut self, it: &ItemConst) {
        self.within("constant", |this| visit::visit_item_const(this, it));
    }

    fn visit_item_static(&mut self, it: &ItemStatic) {
        self.within("static", |this| visit::visit_item_static(this, it));
    }

    fn visit_item_trait(&mut self, it: &ItemTrait) {
        self.within("default method", |this| visit::visit_item_trait(this, it));
    }

    fn visit_item_impl(&mut self, it: &ItemImpl) {
        let of = it
            .trait_
            .as_ref()
            .and_then(|(.., path, _)| path.segments.last());
        let kind = of.map(|it| it.ident.to_string());
        match kind.as_deref() {
            Some("Drop") => self.within("Drop", |this| visit::visit_item_impl(this, it)),
            Some("Default") => self.within("Default", |this| visit::visit_item_impl(this, it)),
            Some(_) => self.within("method of a trait", |this| visit::visit_item_impl(this, it)),
            None => visit::visit_item_impl(self, it),
        }
    }

    fn visit_item_fn(&mut self, it: &ItemFn) {
        if it.sig.constness.is_some() {
            self.within("const fn", |this| {
                this.body(&it.sig.output, &it.block);
                visit::visit_item_fn(this, it);
            });
            return;
        }
        self.body(&it.sig.output, &it.block);
        visit::visit_item_fn(self, it);
    }

    fn visit_impl_item_fn(&mut self, it: &ImplItemFn) {
        self.body(&it.sig.output, &it.block);
        visit::visit_impl_item_fn(self, it);
    }

    fn visit_block(&mut self, it: &Block) {
        for statement in &it.stmts {
            let goes = match statement {
                Stmt::Expr(expr, Some(_)) => matches!(
                    expr,
                    Expr::Call(_) | Expr::MethodCall(_) | Expr::Assign(_) | Expr::Binary(_)
                ),
                Stmt::Macro(it) => it.semi_token.is_some(),
                _ => false,
            };
            if goes {
                self.add(statement.span(), "statement", ";");
            }
        }
        visit::visit_block(self, it);
    }

    fn visit_item_macro(&mut self, it: &ItemMacro) {
        let tokens = it.mac.tokens.clone();
        self.within("macro", |this| this.tokens(tokens, "macro"));
    }

    fn visit_macro(&mut self, it: &Macro) {
        let name = it.path.segments.last().map(|it| it.ident.to_string());
        let name = name.unwrap_or_default();
        // Their texts are names of files and variables.
        if !name.starts_with("include") && !name.ends_with("env") && name != "concat" {
            self.tokens(it.tokens.clone(), "argument of a macro");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Vec<(&'static str, String)> {
        let mutants = of_source("src/lib.rs", text, None).into_iter();
        let mut all: Vec<_> = mutants
            .map(|it| (it.kind, it.applied(text).expect("it is in the text")))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn each_kind_of_place_has_its_changes() {
        let of = |kind, text: &str| (kind, text.to_owned());
        assert_eq!(
            changes("fn f(a: u8) -> bool { a < 2 }"),
            [
                of("literal", "fn f(a: u8) -> bool { a < 3 }"),
                of("operator", "fn f(a: u8) -> bool { a <= 2 }"),
                of("result", "fn f(a: u8) -> bool { false }"),
                of("result", "fn f(a: u8) -> bool { true }"),
            ]
        );
        assert_eq!(
            changes("const A: &str = \"a\";"),
            [of("constant", "const A: &str = \"xa\";")]
        );
        assert_eq!(
            changes("impl Drop for A { fn drop(&mut self) { b(); } }"),
            [
                of("Drop", "impl Drop for A { fn drop(&mut self) {  } }"),
                of("Drop", "impl Drop for A { fn drop(&mut self) { ; } }"),
            ]
        );
        assert_eq!(
            changes("#[test] #[should_panic(expected = \"a\")] fn f() {}"),
            [of(
                "text of should_panic",
                "#[test] #[should_panic(expected = \"xa\")] fn f() {}"
            )]
        );
        assert_eq!(
            changes("macro_rules! m { () => { 1 } }"),
            [of("macro", "macro_rules! m { () => { 2 } }")]
        );
        // A name of a file is none to change; the file is.
        let included = of_source("src/a.rs", "const A: &str = include_str!(\"b\");", None);
        assert_eq!(included.len(), 1);
        assert_eq!(
            (included[0].kind, &*included[0].file),
            ("included file", "src/b")
        );
        assert_eq!(of_source("src/a.rs", "no Rust", None), []);
    }

    #[test]
    fn default_features_go_from_a_manifest() {
        let text = "[features]\ndefault = [\"a\", \"b\"]\n";
        let mutant = of_manifest("Cargo.toml", text).expect("it has some");
        let without = "[features]\ndefault = []\n";
        assert_eq!(mutant.applied(text).as_deref(), Some(without));
        assert_eq!(
            of_manifest("Cargo.toml", "[features]\ndefault = []\n"),
            None
        );
    }

    #[test]
    fn kinds_take_turns_and_a_seed_says_the_order() {
        let all = of_source("a.rs", "fn f(a: u8) -> u8 { 1 + 2 + 3 + 4 + a * 5 }", None);
        let chosen = choose(all.clone(), 1);
        assert_eq!(chosen.len(), all.len());
        let kinds: Vec<_> = chosen.iter().take(3).map(|it| it.kind).collect();
        assert_eq!(kinds, ["literal", "operator", "result"]);
        assert_eq!(chosen, choose(all.clone(), 1));
        assert_ne!(chosen, choose(all, 2));
    }
}
