//! Checks filtersets as far as that is possible without knowing the workspace.

use super::{FiltersetError, FiltersetsError, nesting::is_too_deep};
use guppy::{CargoMetadata, graph::PackageGraph};
use nextest_filtering::{
    Filterset, FiltersetKind, KnownGroups, ParseContext, errors::ParseSingleError,
};
use std::{collections::HashSet, sync::LazyLock};

/// A workspace without packages. The parser wants some workspace, though it only looks at it when
/// the syntax is right.
static EMPTY: LazyLock<PackageGraph> = LazyLock::new(|| {
    let metadata = r#"{
        "packages": [], "workspace_members": [], "resolve": { "nodes": [], "root": null },
        "target_directory": "/target", "version": 1, "workspace_root": "/", "metadata": null
    }"#;
    CargoMetadata::parse_json(metadata)
        .and_then(CargoMetadata::build_graph)
        .expect("the metadata above is complete")
});

/// Checks the syntax of filtersets from the command line, so that a mistake shows before anything
/// is built. What they name is checked by [`super::TestFilter::new`].
///
/// # Errors
///
/// When the syntax of some is wrong.
pub fn check_filtersets(filtersets: &[String]) -> Result<(), FiltersetsError> {
    let check = |text: &String| check_syntax(text, FiltersetKind::Test).err();
    let errors: Vec<FiltersetError> = filtersets.iter().filter_map(check).collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(FiltersetsError(errors))
    }
}

/// Returns whether a text may hold a filterset that asks for dependencies: `deps` or `rdeps`.
pub(crate) fn asks_for_dependencies(text: &str) -> bool {
    text.contains("deps")
}

/// Checks the syntax of a filterset and whether its predicates are allowed.
pub(crate) fn check_syntax(text: &str, kind: FiltersetKind) -> Result<(), FiltersetError> {
    let groups = KnownGroups::Known {
        custom_groups: HashSet::new(),
    };
    let Err(mut error) =
        parse_filterset(text.to_owned(), &ParseContext::new(&EMPTY), kind, &groups)
    else {
        return Ok(());
    };
    error.errors.retain(|error| !depends_on_workspace(error));
    if error.errors.is_empty() && !error.too_deep {
        Ok(())
    } else {
        Err(error)
    }
}

/// Parses a filterset and resolves what it names.
pub(crate) fn parse_filterset(
    text: String,
    packages: &ParseContext<'_>,
    kind: FiltersetKind,
    groups: &KnownGroups,
) -> Result<Filterset, FiltersetError> {
    if is_too_deep(&text) {
        return Err(FiltersetError {
            input: text,
            errors: Vec::new(),
            too_deep: true,
        });
    }
    Ok(Filterset::parse(text, packages, kind, groups)?)
}

fn depends_on_workspace(error: &ParseSingleError) -> bool {
    matches!(
        error,
        ParseSingleError::NoPackageMatch(_)
            | ParseSingleError::NoGroupMatch(_)
            | ParseSingleError::NoBinaryIdMatch(_)
            | ParseSingleError::NoBinaryNameMatch(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(text: &str) -> bool {
        check_filtersets(&[text.to_owned()]).is_ok()
    }

    #[test]
    fn what_depends_on_the_workspace_is_not_checked() {
        assert!(valid(
            "package(a) & deps(b) | rdeps(c) - binary(d) + binary_id(e) and group(f)"
        ));
        assert!(valid("default() and test(x) or kind(lib)"));
    }

    #[test]
    fn mistakes_that_the_parser_can_mend_are_mistakes() {
        assert!(!valid("test(a"));
        assert!(!valid("test(a) && test(b)"));
        assert!(!valid(""));
    }

    #[test]
    fn a_filterset_that_would_exhaust_the_stack_is_a_mistake() {
        for open in ["(", "!", "not ", "test(a) & (", "all() - !("] {
            let text = open.repeat(20_000);
            let error = check_syntax(&text, FiltersetKind::Test).expect_err("it is too deep");
            let expected = "  × more than 100 parentheses and negations are inside each other";
            assert_eq!(error.render(false), expected);
        }
    }

    #[test]
    fn as_many_predicates_as_one_likes_stand_side_by_side() {
        for operator in ["|", "&", "-", "or", "and not"] {
            let text = format!("test(a) {operator} ").repeat(5_000) + "all()";
            assert!(valid(&text), "{operator}");
        }
    }

    #[test]
    fn predicates_are_checked_for_where_they_stand() {
        assert!(check_syntax("default()", FiltersetKind::OverrideFilter).is_ok());
        assert!(check_syntax("default()", FiltersetKind::DefaultFilter).is_err());
        assert!(check_syntax("group(a)", FiltersetKind::OverrideFilter).is_err());
    }
}
