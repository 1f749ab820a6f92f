"""MakeHuman's text formats, on a tiny handmade proxy."""

import numpy as np
import pytest

from training.synthetic.mhclo import diffuse_texture, read_mhclo, read_obj, read_target

CUBE_SIDE = """v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\ng front\nf 1/1 2/2 3/3 4/4\ng other\nf 1/1 2/2 3/3\n"""
PROXY = """# a comment
name patch
obj_file patch.obj
material patch.mhmat
x_scale 0 1 2.0
verts 0
2
0 1 2 0.5 0.25 0.25 0.1 0.0 0.0
3
1
weights
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "patch.obj").write_text(CUBE_SIDE)
    (tmp_path / "patch.mhclo").write_text(PROXY)
    (tmp_path / "patch.mhmat").write_text("// textures\ndiffuseTexture patch.png\n")
    return tmp_path


def test_a_quad_becomes_two_triangles_with_its_texture_coordinates(folder):
    mesh = read_obj(folder / "patch.obj", groups=("front",))
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.uv[2].tolist() == [1, 1] and mesh.corner_vertex.tolist() == [0, 1, 2, 3]
    assert len(read_obj(folder / "patch.obj").triangles) == 3


def test_a_proxy_follows_the_base_and_scales_with_it(folder):
    proxy = read_mhclo(folder / "patch.mhclo")
    base = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], np.float32)
    at_rest = proxy.fitting.fit(base)
    assert len(at_rest) == 4
    assert at_rest[0] == pytest.approx(base[2]), "a single number hangs on that vertex"
    assert at_rest[1] == pytest.approx([1.0 + 0.1, 0.5, 0.0]), "three numbers mix three vertices and add an offset"
    assert proxy.fitting.fit(base * [3, 1, 1])[1] == pytest.approx([3.0 + 0.3, 0.5, 0.0]), (
        "the offset grows with the base"
    )


def test_a_texture_is_named_by_the_material_and_must_be_there(folder):
    material = read_mhclo(folder / "patch.mhclo").material
    assert diffuse_texture(material) is None
    (folder / "patch.png").write_bytes(b"")
    assert diffuse_texture(material) == folder / "patch.png"


def test_a_file_that_is_no_proxy_is_refused_by_name(folder):
    (folder / "bad.mhclo").write_text("name bad\n")
    with pytest.raises(ValueError, match="bad.mhclo"):
        read_mhclo(folder / "bad.mhclo")


def test_targets_are_vertex_numbers_and_displacements():
    index, delta = read_target("# comment\n5 0.1 0 -0.2\n9 0 1 0\n")
    assert index.tolist() == [5, 9] and delta[0].tolist() == pytest.approx([0.1, 0, -0.2])
