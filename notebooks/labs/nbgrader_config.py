"""What nbgrader has to know of the labs; it is run in this folder. How: TEACHING.md."""

c = get_config()  # noqa: F821  nbgrader's own

c.CourseDirectory.course_id = "clbook"
c.ClearSolutions.code_stub = {"python": "pass  # your code here"}
c.ClearSolutions.text_stub = "Your answer here."
c.Execute.timeout = 120  # seconds of a cell
