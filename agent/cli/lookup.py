"""tags, resolve, inspect: looking at a registry, changing nothing."""

import click

import registry
from agent.cli.app import App, format_flag, require_no_path, verb
from agent.cli.output import sizes
from agent.pipeline.candidate import Head
from agent.pipeline.heads import find_head, open_looking
from agent.pipeline.plan import version_offers
from sandbox.binary import imports
from sandbox.shape import Import
from sandbox.truth import notes


@verb(name="tags", examples="agent tags org.example.hello\nagent tags localhost:5000/plugins/a.b")
@click.argument("plugin", metavar="ID|REF")
@format_flag
def tags_command(app: App, plugin: str) -> None:
    """List a plugin's versions in its registry, highest first, and its other tags."""
    require_no_path("tags", plugin)
    reference = registry.parse_reference(plugin, app.context.bases())
    with open_looking(app.context, reference) as repository:
        tags = repository.tags()
    offers = version_offers(tags)
    versions = [str(offer.version) for offer in offers]
    other = sorted(set(tags) - {str(offer.tag) for offer in offers})
    if app.out.as_json:
        app.out.document(versions=versions, other=other)
        return
    for tag in (*versions, *other):
        app.out.line(tag)
    if not tags:
        app.out.message(f"{reference.location.text} has no tags")


@verb(name="resolve", examples="agent resolve org.example.hello:0.2.0 --format json")
@click.argument("reference_text", metavar="REF")
@format_flag
def resolve_command(app: App, reference_text: str) -> None:
    """Print the digest and the release that a reference names; no version = the newest."""
    require_no_path("resolve", reference_text)
    reference, head = find_head(app.context, reference_text)
    digest = head.artifact.manifest.digest
    release = head.subject.release
    named = f"{reference.location.text}:{registry.version_to_tag(head.manifest.version)}@{digest}"
    if app.out.as_json:
        app.out.document(ref=named, digest=digest, release=release)
        return
    app.out.line(f"ref     {named}")
    app.out.line(f"digest  {digest}")
    app.out.line(f"release {release}")


@verb(name="inspect", examples="agent inspect org.example.hello:0.2.0")
@click.argument("reference_text", metavar="REF")
@format_flag
def inspect_command(app: App, reference_text: str) -> None:
    """Print what an artifact says of itself. Nothing of it is believed by that: see verify.

    The notes say where the capabilities that it requests differ from what its code imports.
    """
    require_no_path("inspect", reference_text)
    reference, head = find_head(app.context, reference_text)
    manifest, meta, oci = head.manifest, head.manifest.meta, head.artifact.manifest
    row: dict[str, object] = {
        "id": manifest.id,
        "version": manifest.version,
        "release": head.subject.release,
        "digest": oci.digest,
        "repository": reference.location.text,
        "name": meta.name,
        "description": meta.description,
        "license": meta.license,
        "authors": list(meta.authors),
        "wasm_target": manifest.wasm_target,
        "abi": manifest.abi,
        "min_host": manifest.min_host,
        "entry": manifest.entry,
        "capabilities": list(manifest.capabilities),
        "stem": manifest.stem,
        "notes": _notes(app, reference, head),
    }
    layers = [
        {"media_type": part.media_type, "digest": part.digest, "size_bytes": part.size_bytes}
        for part in oci.layers
    ]
    if app.out.as_json:
        app.out.document(**row, layers=layers, annotations=dict(oci.annotations))
        return
    app.out.fields(row)
    app.out.line("layers")
    for part in oci.layers:
        app.out.line(f"  {part.digest[:19]}…  {sizes(part.size_bytes)}  {part.media_type}")


def _notes(app: App, reference: registry.Reference, head: Head) -> list[str]:
    """Where requests and imports differ; the code is fetched for that and not kept."""
    longest = app.context.config.sandbox.max_module_bytes
    code = head.artifact.payload
    if code.size_bytes > longest:
        return [f"its code has {code.size_bytes} bytes, more than sandbox.max_module_bytes"]
    with open_looking(app.context, reference) as repository:
        payload = repository.read_blob(code, max_bytes=longest)
    try:
        imported = [Import(module, name, None) for module, name in imports(payload)]
    except ValueError as error:
        return [f"its code can't be read: {error}"]
    return list(notes(imported, head.manifest.capabilities, {}))
