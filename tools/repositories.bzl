"""Repositories that give an installed TensorFlow wheel the labels of TensorFlow's own tree."""

_FIND_TENSORFLOW = """
import importlib.util
spec = importlib.util.find_spec("tensorflow")
print(spec.submodule_search_locations[0] if spec else "")
"""

_WHEEL_BUILD = """
cc_library(
    name = "tensorflow",
    srcs = ["libtensorflow_framework.so.2"],
    hdrs = glob(["include/**"]),
    defines = ["EIGEN_MAX_ALIGN_BYTES=64"],
    includes = ["include"],
    visibility = ["//visibility:public"],
)
"""

def _python(repository_ctx):
    """$PYTHON_BIN_PATH, or the virtual environment that `make install` creates, or python3."""
    chosen = repository_ctx.os.environ.get("PYTHON_BIN_PATH")
    if chosen:
        return chosen
    root = repository_ctx.path(Label("//:WORKSPACE")).dirname
    virtual = repository_ctx.path(str(root) + "/.venv/bin/python")
    return virtual if virtual.exists else "python3"

def _tensorflow_wheel_impl(repository_ctx):
    python = _python(repository_ctx)

    # Found without importing TensorFlow: the import takes seconds and starts threads.
    found = repository_ctx.execute([python, "-c", _FIND_TENSORFLOW])
    wheel = found.stdout.strip()
    if found.return_code != 0 or not repository_ctx.path(wheel + "/include/tensorflow/core/framework/op.h").exists:
        fail("TensorFlow's headers were not found with {}: run `make install`, or set PYTHON_BIN_PATH to a Python that has the tensorflow wheel named in pyproject.toml. {}".format(python, found.stderr))

    # `external` is half of the headers, none of which the others include.
    for entry in repository_ctx.path(wheel + "/include").readdir():
        if entry.basename != "external":
            repository_ctx.symlink(entry, "include/" + entry.basename)
    library = "libtensorflow_framework.so.2"
    repository_ctx.symlink(wheel + "/" + library, library)
    repository_ctx.file("BUILD", _WHEEL_BUILD)

tensorflow_wheel = repository_rule(
    implementation = _tensorflow_wheel_impl,
    doc = "//:tensorflow is all headers and libtensorflow_framework of the wheel of a Python environment.",
    environ = ["PYTHON_BIN_PATH"],
    local = True,
)

def _alias_repository_impl(repository_ctx):
    packages = {}
    for label in repository_ctx.attr.labels:
        package, name = label[len("//"):].split(":")
        packages.setdefault(package, []).append(name)
    for package, names in packages.items():
        repository_ctx.file((package + "/BUILD").lstrip("/"), "\n".join([
            'alias(name = "{}", actual = "{}", visibility = ["//visibility:public"])'.format(name, repository_ctx.attr.actual)
            for name in names
        ]))

alias_repository = repository_rule(
    implementation = _alias_repository_impl,
    doc = "A repository in which each of `labels` stands for the target `actual`.",
    attrs = {
        "actual": attr.string(mandatory = True),
        "labels": attr.string_list(mandatory = True),
    },
)
