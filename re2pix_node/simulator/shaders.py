"""The shaders (GLSL): colour, labels, soft shadows and the sky."""

_VERTEX = """#version 330
uniform mat4 p3d_ModelViewProjectionMatrix;
uniform mat4 p3d_ModelMatrix;
uniform vec3 sun_direction, sun, sky, ground;
in vec4 p3d_Vertex;
in vec3 normal;
in vec4 surface;
in vec3 tint;
out vec3 light;
out vec3 uv;
out float ahead;
flat out float label;
void main() {
    gl_Position = p3d_ModelViewProjectionMatrix * p3d_Vertex;
    vec3 n = normalize(mat3(p3d_ModelMatrix) * normal);
    light = tint * (mix(ground, sky, n.z * 0.5 + 0.5) + sun * max(dot(n, sun_direction), 0.0));
    uv = surface.xyz;
    label = surface.w;
    ahead = gl_Position.w;
}
"""

COLOUR = (
    _VERTEX,
    """#version 330
uniform sampler2DArray textures;
uniform vec3 haze;
uniform float haze_density;
in vec3 light;
in vec3 uv;
in float ahead;
out vec4 colour;
void main() {
    vec4 texel = texture(textures, uv);
    if (texel.a < 0.4) discard;
    colour = vec4(mix(haze, texel.rgb * light, exp(-ahead * haze_density)), 1.0);
}
""",
)

LABELS = (
    _VERTEX,
    """#version 330
uniform sampler2DArray textures;
uniform float instance;
in vec3 uv;
in float ahead;
flat in float label;
out vec4 labels;
void main() {
    if (texture(textures, uv).a < 0.4) discard;
    labels = vec4(label, instance, ahead, 1.0);
}
""",
)

# The first texture coordinate of a shadow's mesh is its darkness there.
SHADOW = (
    _VERTEX,
    """#version 330
uniform float shadow;
in vec3 uv;
out vec4 colour;
void main() {
    colour = vec4(0.0, 0.0, 0.02, clamp(uv.x, 0.0, 1.0) * shadow);
}
""",
)

SKY_DOME = (
    """#version 330
uniform mat4 p3d_ModelViewProjectionMatrix;
in vec4 p3d_Vertex;
out vec3 direction;
void main() {
    gl_Position = p3d_ModelViewProjectionMatrix * p3d_Vertex;
    direction = p3d_Vertex.xyz;
}
""",
    """#version 330
uniform sampler2D panorama;
in vec3 direction;
out vec4 colour;
void main() {
    vec3 d = normalize(direction);
    vec2 uv = vec2(atan(d.y, d.x) / 6.2831853, clamp(asin(d.z) / 1.5707963, 0.004, 0.996));
    colour = vec4(textureLod(panorama, uv, 0.0).rgb, 1.0);
}
""",
)
